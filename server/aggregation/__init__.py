"""The AGGREGATORS table: how the server combines the sites."""
