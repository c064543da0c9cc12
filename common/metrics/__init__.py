"""Metrics over case predictions; numpy only."""
