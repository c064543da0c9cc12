"""The ENGINES table: where a simulated federation runs."""
