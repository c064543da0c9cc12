"""A coordinator's dossier of a run: read from its run folder, asking nobody."""
