"""Emulated hospitals: the federation file, their cases and site folders, trouble on purpose."""
