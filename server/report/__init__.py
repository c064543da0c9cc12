"""The report of a run, rebuilt from its run folder alone."""
