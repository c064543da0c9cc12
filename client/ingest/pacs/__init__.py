"""Fetching studies from the PACS: C-ECHO, C-FIND, C-GET, C-MOVE. Needs the extra `pacs`."""
