"""What the quality report says: figures per study and of the site, from its index and the records of its cases."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from prostafed.client.ingest.records import Kind
from prostafed.common.imaging.cases import MASKS, CaseRecord

SMALL = 10  # counts below can point at a patient
MIN_PATIENTS = 20
KINDS: tuple[str, ...] = get_args(Kind)

Entry = Mapping[str, Any]  # a study in index.json


@dataclass(frozen=True)
class SequenceFigures:
    """One sequence of a study; what the index does not say is None."""

    source: str
    b_value_s_per_mm2: float | None
    spacing_mm: tuple[float, ...] | None  # as acquired, (z, y, x)
    coverage: float | None  # share of the box
    snr: float | None


@dataclass(frozen=True)
class StudyFigures:
    """One study."""

    study: str
    status: str
    findings: tuple[tuple[str, str, str], ...]  # (code, severity, sentence)
    sequences: Mapping[str, SequenceFigures]
    b_values_s_per_mm2: tuple[float, ...]  # acquired
    kinds: Mapping[str, int]  # kind of series -> how many
    planes: Mapping[str, int]  # plane -> how many T2W series
    masks: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether it became a case."""
        return self.status != "refused"

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """The technical minima of PI-RADS v2.1 it misses."""
        return tuple(text for code, _, text in self.findings if code == "PIRADS_MINIMUM")


@dataclass(frozen=True)
class Count:
    """How many cases have a label."""

    label: str
    value: str
    cases: int

    @property
    def small(self) -> bool:
        """Whether it must not leave as it is."""
        return 0 < self.cases < SMALL


def describe_study(entry: Entry) -> StudyFigures:
    """Return the figures of a study in index.json."""
    series = entry.get("series") or []
    b_values = {b for each in series if each["kind"] == "dwi" for b in each["b_values_s_per_mm2"]}
    return StudyFigures(
        study=entry["study"],
        status=entry["status"],
        findings=list_findings(entry["findings"]),
        sequences={name: _describe_sequence(each) for name, each in entry["sequences"].items()},
        b_values_s_per_mm2=tuple(sorted(b_values)),
        kinds=dict(Counter(each["kind"] for each in series)),
        planes=dict(Counter(each["plane"] for each in series if each["kind"] == "t2w")),
        masks=tuple(entry.get("masks") or ()),
    )


def count_labels(records: Sequence[CaseRecord]) -> list[Count]:
    """Return how many cases have which label, unknown included."""
    words = {True: "yes", False: "no", None: "unknown"}
    cspca = Counter(record.cspca for record in records)
    isup = Counter(record.isup for record in records)
    highest = Counter(max(record.pirads_reads, default=None) for record in records)
    readers = Counter(len(record.pirads_reads) for record in records)
    masks = Counter(name for record in records for name in record.masks)
    return [
        *(Count("csPCa", words[value], cspca[value]) for value in (True, False, None)),
        *(Count("ISUP grade", _word(value), isup[value]) for value in (*range(6), None) if isup[value]),
        *(Count("PI-RADS, highest", _word(value), highest[value]) for value in (*range(1, 6), None) if highest[value]),
        *(Count("Readers per case", str(value), readers[value]) for value in sorted(readers)),
        *(Count("Delineated", name, masks[name]) for name in MASKS),
    ]


def tabulate_protocols(studies: Iterable[StudyFigures]) -> list[tuple[str, str, int]]:
    """Return (what, value, studies) of the usable ones: where sequences come from, b-values, T2W voxels; most first."""
    counts: Counter[tuple[str, str]] = Counter()
    for study in studies:
        if not study.usable:
            continue
        for name, sequence in study.sequences.items():
            if name != "t2w":
                counts[f"{name.upper()} from", sequence.source] += 1
            elif sequence.spacing_mm:
                counts["T2W voxels", format_spacing(sequence.spacing_mm)] += 1
        counts["b-values acquired", format_b_values(study.b_values_s_per_mm2)] += 1
    return sorted(((*key, count) for key, count in counts.items()), key=lambda row: (row[0], -row[2], row[1]))


def count_findings(studies: Iterable[StudyFigures]) -> list[tuple[str, str, int]]:
    """Return (code, severity, studies that have it), the gravest and most frequent first."""
    counts = Counter(key for study in studies for key in {(code, severity) for code, severity, _ in study.findings})
    rows = [(code, severity, count) for (code, severity), count in counts.items()]
    return sorted(rows, key=lambda row: ("FSW".index(row[1]), -row[2], row[0]))


def summarise(studies: Sequence[StudyFigures], records: Sequence[CaseRecord]) -> dict[str, Any]:
    """Return the report as JSON: the same figures the page shows, without its pictures."""
    return {
        "studies": [_as_json(study) for study in studies],
        "counts": {
            status: sum(study.status == status for study in studies) for status in ("ready", "warning", "refused")
        },
        "patients": len({record.patient_id for record in records}),
        "labels": [asdict(each) for each in count_labels(records)],
        "protocols": [dict(zip(("what", "value", "studies"), row, strict=True)) for row in tabulate_protocols(studies)],
        "codes": [dict(zip(("code", "severity", "studies"), row, strict=True)) for row in count_findings(studies)],
        "snr": "estimated in the middle of the volume, in the voxels as acquired; compare studies of one protocol",
    }


def format_spacing(spacing_mm: Sequence[float]) -> str:
    """Return "3.6 × 0.5 × 0.5 mm" (z, y, x)."""
    return " × ".join(f"{round(mm, 2):g}" for mm in spacing_mm) + " mm"


def format_b_values(b_values_s_per_mm2: Sequence[float]) -> str:
    """Return "50, 400, 800", a dash where there is none."""
    return ", ".join(f"{b:g}" for b in b_values_s_per_mm2) or "–"


def _as_json(study: StudyFigures) -> dict[str, Any]:
    findings = [dict(zip(("code", "severity", "text"), each, strict=True)) for each in study.findings]
    return asdict(study) | {"findings": findings, "meets_pirads_minima": not study.shortfalls if study.usable else None}


def _describe_sequence(each: Mapping[str, Any]) -> SequenceFigures:
    spacing_mm = each.get("spacing_mm")
    return SequenceFigures(
        source=each["source"],
        b_value_s_per_mm2=each.get("b_value_s_per_mm2"),
        spacing_mm=tuple(spacing_mm) if spacing_mm else None,
        coverage=each.get("coverage"),
        snr=each.get("snr"),
    )


def list_findings(findings: Iterable[Mapping[str, str]]) -> tuple[tuple[str, str, str], ...]:
    """Return (code, severity, sentence without code and case) of each finding of the index."""
    return tuple((each["code"], each["severity"], each["text"].partition(": ")[2] or each["text"]) for each in findings)


def _word(value: int | None) -> str:
    return "unknown" if value is None else str(value)
