"""Noise: what is planned, what it costs, how it is drawn, and a bound from below. Neither files nor torch."""
