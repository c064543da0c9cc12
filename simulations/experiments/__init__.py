"""Study files that ship with the package, and experiments: python -m prostafed.simulations.experiments.NAME."""
