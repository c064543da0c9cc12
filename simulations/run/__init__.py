"""A simulation: engines, arms, merged records, pictures."""
