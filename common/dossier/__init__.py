"""The dossier of a run, for a data protection officer: questions, answered by figures of this run or "not known"."""
