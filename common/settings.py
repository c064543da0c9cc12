"""Settings as plain frozen dataclasses, for the training core: neither torch nor pydantic is needed to make one.

Where a file holds them, pydantic reads them strictly, unknown keys forbidden.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

# name of a bound -> whether a value keeps it, how it is said alone, how it is said after a lower one
_BOUNDS: dict[str, tuple[Callable[[float, float], bool], str, str]] = {
    "above": (lambda value, bound: value > bound, "above {}", ""),
    "at_least": (lambda value, bound: value >= bound, "at least {}", ""),
    "below": (lambda value, bound: value < bound, "below {}", " and below {}"),
    "at_most": (lambda value, bound: value <= bound, "at most {}", " and at most {}"),
}


def setting(default: Any, description: str, **bounds: float) -> Any:
    """Return a dataclass field with its description, which the documentation prints, and its range.

    `bounds` are among above, at_least, below and at_most; None, where it is a value, is in any range.
    """
    assert bounds.keys() <= _BOUNDS.keys()
    return field(default=default, metadata={"description": description, "bounds": bounds})


def describe_range(bounds: Mapping[str, float]) -> str:
    """Return a range in words, as in "at least 0 and below 1"; "" without bounds."""
    said = ""
    for name, (_, alone, after) in _BOUNDS.items():
        if name in bounds:
            said += (after if said else alone).format(f"{bounds[name]:g}")
    return said


@dataclass(frozen=True)
class Settings:
    """Base of a table of settings."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of its range."""
        for each in fields(self):
            value, bounds = getattr(self, each.name), each.metadata.get("bounds", {})
            if value is not None and not all(_BOUNDS[name][0](value, bound) for name, bound in bounds.items()):
                raise ValueError(f"{each.name} must be {describe_range(bounds)}, found {value}.")
