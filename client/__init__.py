"""The hospital: its cases, its training, its memory, and the gate everything leaves through."""
