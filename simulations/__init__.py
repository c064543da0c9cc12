"""The researcher: emulated hospitals from generated or public data."""
