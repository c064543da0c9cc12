"""A simulation: engines, arms, merged records, pictures."""

from pathlib import Path

DEFAULT_CACHE, CACHE_VARIABLE = Path.home() / ".cache" / "prostafed", "PROSTAFED_CACHE"  # of prepared cases
