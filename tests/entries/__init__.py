"""Entries of tables as a user would write them: each is one file, tried by the tests of its table."""
