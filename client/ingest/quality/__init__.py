"""Quality of the indexed cases: figures per study, pictures, one HTML page and its JSON, for the hospital alone."""
