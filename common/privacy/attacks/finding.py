"""What an attack found: a number with its interval, beside what guessing gives; and the file that holds all of them."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from prostafed.common.errors import DataError
from prostafed.common.shell.configuration import Section
from prostafed.common.shell.files import write_text

FILE = "attacks.json"


class Finding(Section):
    """One figure of an attack."""

    attack: str  # among ATTACKS
    variant: str  # of the attack, or the protection it met
    site: str = ""  # "": all sites together
    measure: str  # what the value is
    value: float
    low: float
    high: float  # low to high: 95 % interval
    chance: float  # what guessing gives, or an unrelated case
    of: str  # how many patients, cases or updates it rests on

    @model_validator(mode="after")
    def _in_its_interval(self) -> "Finding":
        if not self.low <= self.value <= self.high:
            raise ValueError(f"expected {self.value} within {self.low} to {self.high}")
        return self

    @property
    def verdict(self) -> Literal["above chance", "not above chance"]:
        """Whether the whole interval lies above chance."""
        return "above chance" if self.low > self.chance else "not above chance"


class Findings(Section):
    """attacks.json: what was attacked, and what came of it."""

    format: Literal[1] = 1
    run: str  # name of the run's folder, or of the bundle
    study_hash: str
    model_sha256: str  # of the file of weights
    seed: int
    made: str  # when, ISO 8601
    generated: bool  # whether no patient was imaged for the cases
    findings: tuple[Finding, ...]
    left_out: dict[str, str] = Field(default={})  # attack -> why it was not carried out

    def of(self, attack: str) -> tuple[Finding, ...]:
        """Return what an attack found."""
        return tuple(each for each in self.findings if each.attack == attack)


def write_findings(path: Path, findings: Findings) -> None:
    """Write attacks.json."""
    write_text(path, findings.model_dump_json(indent=2) + "\n")


def read_findings(path: Path) -> Findings | None:
    """Read attacks.json, None where there is none; raises DataError where it is damaged."""
    if not path.is_file():
        return None
    try:
        return Findings.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as what an attack found. Attack again, or remove it.") from error
