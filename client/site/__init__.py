"""The site's own folder: its settings, its keys, its first day."""
