"""The rooms of prostafed without an installation, and without what a package shows to its users, which needs more."""

import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
for name in ("", "client", "common", "simulations"):
    package = ModuleType(f"prostafed.{name}".rstrip("."))
    package.__path__ = [str(ROOT / name)]
    sys.modules[package.__name__] = package
