"""A run: stages, rounds, evaluation, checkpoints, trackers."""
