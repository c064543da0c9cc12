"""What a manifest is once read."""

from dataclasses import dataclass

from prostafed.client.findings import Severity
from prostafed.client.manifest.rows import LesionRow, ReadRow, StudyRow


@dataclass(frozen=True)
class ManifestFinding:
    """What is wrong with a line of the manifest; `case_id` as the line has it, "" where it concerns no single case."""

    code: str
    severity: Severity
    case_id: str
    text: str  # place and what is allowed, no cell's contents: may stand in a finding
    local: str = ""  # the same with the cell's contents: for the site's own terminal only


@dataclass(frozen=True)
class Manifest:
    """The rows of the three tables in the order of their lines; cells with a mistake are blank."""

    studies: tuple[StudyRow, ...]
    lesions: tuple[LesionRow, ...] = ()
    reads: tuple[ReadRow, ...] = ()
    findings: tuple[ManifestFinding, ...] = ()
