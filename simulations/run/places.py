"""Where simulations keep things by default."""

from pathlib import Path

DEFAULT_CACHE = Path.home() / ".cache" / "prostafed"
CACHE_VARIABLE = "PROSTAFED_CACHE"
