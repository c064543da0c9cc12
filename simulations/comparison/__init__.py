"""Comparisons: one study in many variants, run side by side."""
