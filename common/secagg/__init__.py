"""Secure aggregation: masks that cancel in a sum. Pure functions; no files, no network, no Flower."""
