"""Entries that tests add to the tables, written as a user would."""
