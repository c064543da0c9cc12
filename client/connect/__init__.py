"""How a site reaches its coordinator."""
