"""The run folder: what a run leaves on the disk, written and read."""
