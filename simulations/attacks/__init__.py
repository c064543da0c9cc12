"""Attacks on a finished simulation, whose folder leads to the cases of every site."""
