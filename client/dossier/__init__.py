"""A hospital's dossier of a run: read from the files beside the site file, asking nobody."""
