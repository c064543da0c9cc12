"""The coordinator's link to its sites: certificates, Flower's SuperLink, runs submitted to it."""
