"""Is all well? A record of conditions, each one sentence with its remedy, as both programs tell it: to a person, to
another program, and to a monitor by an exit code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prostafed.common.shell.command import NOT_READY, NOT_RUNNING


@dataclass(frozen=True)
class Condition:
    """One thing that has to be so. `fix` says what to do; where the condition holds, what to do before it ends."""

    name: str
    ok: bool
    text: str
    fix: str = ""


@dataclass(frozen=True)
class Health:
    """The state of a program that runs for days. `summary` is what it does, for the first line where all is well."""

    running: bool
    conditions: tuple[Condition, ...]
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)  # what --json tells beside the conditions

    @property
    def ready(self) -> bool:
        """Whether it runs and every condition holds."""
        return self.running and all(each.ok for each in self.conditions)

    @property
    def exit_code(self) -> int:
        """What a monitor gets: 0 ready, NOT_READY, or NOT_RUNNING."""
        if not self.running:
            return NOT_RUNNING
        return 0 if self.ready else NOT_READY

    def as_json(self) -> dict[str, Any]:
        """Return what --json prints, and what GET /health answers."""
        conditions = [{name: _plain(each) for name, each in vars(condition).items()} for condition in self.conditions]
        return {**self.facts, "running": self.running, "ready": self.ready, "conditions": conditions}

    def say(self) -> str:
        """Return what a person reads: whether all is well, then a line for each condition, its remedy below it."""
        failing = list(dict.fromkeys(each.name for each in self.conditions if not each.ok))
        lines = [f"Ready: {self.summary}" if self.ready else f"Not ready: {', '.join(failing)}."]
        width = max((len(each.name) for each in self.conditions), default=0)
        for each in self.conditions:
            mark = "FIX " if not each.ok else "soon" if each.fix else "ok  "
            lines.append(f"{mark} {each.name:{width}}  {each.text}")
            lines += [f"{'':5}{'':{width}}  -> {each.fix}"] if each.fix else []
        return "\n".join(_plain(line) for line in lines)


def _plain(value: Any) -> Any:
    """Return a text without what steers a terminal: names and reasons can come from outside."""
    if not isinstance(value, str):
        return value
    return "".join(letter if letter.isprintable() else "?" for letter in value)
