"""One round at a site: what it starts from, how it is trained, what is kept of it on the disk."""
