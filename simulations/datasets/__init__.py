"""Importers of public prostate MRI sets, one file each."""
