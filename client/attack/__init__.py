"""What a hospital, or a simulation in its place, does to attack a model: losses of single cases, its own patients."""
