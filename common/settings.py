"""Settings as plain frozen dataclasses, for the training core: neither torch nor pydantic is needed to make one.

Where a file holds them, pydantic reads them strictly, unknown keys forbidden.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar


def setting(default: Any, description: str) -> Any:
    """Return a dataclass field with its description, which the documentation prints."""
    return field(default=default, metadata={"description": description})


@dataclass(frozen=True)
class Settings:
    """Base of a table of settings."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}
