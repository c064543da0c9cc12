"""What ingestion has to say of a study: codes, how grave they are, and one sentence each."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from prostafed.common.errors import DataError

Severity = Literal["F", "S", "W"]  # study refused, source (a file or a series) skipped, warning
Status = Literal["ready", "warning", "refused"]

_SEVERITIES: dict[str, Severity] = {"F": "F", "S": "S", "W": "W"}

# Code -> the severities it may have; the first is the usual one.
CODES: dict[str, str] = {
    "NO_DICOM": "F",
    "EMPTY_FILE": "S",
    "UNREADABLE": "SF",
    "TRUNCATED": "F",
    "NOT_DICOM": "W",
    "ZIP_FOUND": "F",
    "SYMLINK_SKIPPED": "W",
    "TOO_MANY_FILES": "F",
    "STUDY_TOO_LARGE": "F",
    "SEVERAL_PATIENTS": "F",
    "SEVERAL_STUDIES": "F",
    "SHARED_NUMBER": "W",  # a patient number of several men
    "DUPLICATE_INSTANCE": "W",
    "DUPLICATE_POSITION": "FS",
    "MISSING_SLICE": "FSW",
    "MIXED_SIZE": "FS",
    "MIXED_SPACING": "FS",
    "NO_GEOMETRY": "FS",
    "BAD_ORIENTATION": "FS",
    "SHEARED": "FS",
    "NOT_FINITE": "FS",
    "NO_T2": "F",
    "SEVERAL_T2_AX": "W",
    "SET_ASIDE": "W",  # images of a series that is used: another plane, another stack
    "COLOUR_SKIPPED": "W",
    "ADC_UNITS": "S",
    "BAD_RESCALE": "SF",
    "INVERTED": "SF",
    "NO_ADC": "FW",
    "NO_HBV": "FW",
    "NO_BVALUE": "S",
    "B_VALUES_WRONG": "S",
    "MIXED_DIFFUSION": "S",  # b-values left out of a fit: another echo time, repetition time or place
    "FRAME_OF_REFERENCE": "W",  # positions of ADC or high b are not those of the T2W
    "ASK_MAP": "W",  # a derived diffusion series that may be an ADC map
    "MOSAIC": "W",
    "NO_DECODER": "FS",
    "LOSSY": "W",
    "BURNED_IN": "F",
    "LOW_OVERLAP": "F",
    "BLANK": "F",
    "SOURCE_GONE": "W",  # a study is no longer in the folder it was indexed from
    "ASK_ANATOMY": "W",  # sex F, or another body part than the pelvis
    "MASK_SPACE": "FW",
    "MASK_LABEL": "F",
    "MASK_EMPTY": "W",
    "LABEL_CONFLICT": "F",
    "LABEL_RANGE": "F",
    "PSAD": "W",  # psad differs from psa / volume by more than 0.03
    "HEADER_GAP": "W",  # results could not take over all of the header
    "PIRADS_MINIMUM": "W",  # below the technical minima of PI-RADS v2.1
}


@dataclass(frozen=True)
class Finding:
    """One finding; `text` is `CODE case=<pseudonym>: what, where, what to do` and holds no value of a tag."""

    code: str
    severity: Severity
    text: str


class SourceError(DataError):
    """A file, series or study cannot be used; `text` says what was expected, what was found and what to do.

    Raised without a case: whoever knows the case turns it into a Finding. Never put a path, a name, a date or a tag's
    text into it; counts, millimetres, b-values and places ("slice 7 of 19") are what it may say.
    """

    def __init__(self, code: str, text: str, severity: Severity | None = None) -> None:
        assert code in CODES, code
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text
        self.severity: Severity = severity or usual_severity(code)


def usual_severity(code: str) -> Severity:
    """Return the severity a code has unless said otherwise."""
    return _SEVERITIES[CODES[code][0]]


def make_finding(case_id: str, code: str, text: str, severity: Severity | None = None) -> Finding:
    """Return a finding about `case_id`, a pseudonym ("-" where it concerns no single study)."""
    return Finding(code, severity or usual_severity(code), f"{code} case={case_id}: {text}")


def from_error(case_id: str, error: DataError) -> Finding:
    """Return the finding an error is: of a SourceError, or of an imaging error that begins with its code."""
    if isinstance(error, SourceError):
        return make_finding(case_id, error.code, error.text, error.severity)
    code, _, rest = str(error).partition(" case=")
    return make_finding(case_id, code, rest.partition(": ")[2])


def get_status(findings: Iterable[Finding]) -> Status:
    """Return what findings make of a study."""
    severities = {finding.severity for finding in findings}
    return "refused" if "F" in severities else "warning" if severities else "ready"
