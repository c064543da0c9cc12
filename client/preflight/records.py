"""What a check is given, and what it says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from prostafed.client.site.site_file import Site
from prostafed.common.study import Data


@dataclass(frozen=True)
class Situation:
    """A site as it is checked."""

    site_file: Path
    site: Site
    data: Data | None  # of the study; None = no study is named, cases may lie on any grid
    now: datetime  # in UTC


@dataclass(frozen=True)
class Remark:
    """One sentence; `fix` says what to do and is "" where all is well."""

    text: str
    fix: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is nothing to do."""
        return not self.fix

    def as_json(self, check: str) -> dict[str, Any]:
        """Return the result as `check --json` prints it."""
        return {"check": check, "ok": self.ok, "text": self.text, "fix": self.fix}


Check = Callable[[Situation], Iterator[Remark]]
