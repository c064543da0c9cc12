"""The coordinator: stages, rounds, aggregation, checkpoints, report."""
