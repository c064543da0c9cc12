"""The index as it is written: one entry per study, by pseudonym; what has not changed is kept from one to the next."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from prostafed.client.findings import Finding, get_status
from prostafed.client.ingest.assemble import Assembled, Wanted
from prostafed.client.ingest.images.sources import Source
from prostafed.client.ingest.plan import FORMAT, Plan
from prostafed.client.ingest.quality.noise import estimate_snr
from prostafed.client.ingest.records import Series

INDEX = "index.json"

Entry = dict[str, Any]  # a study in the index; see `describe_study`
NameSeries = Callable[[Series], str]


def describe_study(plan: Plan, assembled: Assembled, sequences: Sequence[str], name: NameSeries) -> Entry:
    """Return the entry of a study.

    {study, status (ready, warning, refused), findings [{code, severity, text}], sequences {name: see
    `_describe_source`}, spacing_mm and size of the T2W (z, y, x), masks, series [{series, kind, plane, slices,
    b_values_s_per_mm2, reason}], fingerprint, root}
    """
    findings = (*plan.findings, *assembled.findings)
    used = {key: assembled.sources[key] for key in sequences if key in assembled.sources}
    t2w = assembled.sources.get("t2w")
    return {
        "study": plan.known.case_id,
        "status": get_status(findings),
        "findings": [asdict(each) for each in findings],
        "sequences": {key: _describe_source(source, assembled.coverage.get(key), name) for key, source in used.items()},
        "spacing_mm": None if t2w is None else _get_spacing(t2w.image),
        "size": None if t2w is None else list(t2w.image.GetSize()[::-1]),
        "masks": [] if assembled.case is None else list(assembled.case[0].masks),
        "series": [] if plan.study is None else [_describe_series(each, name) for each in plan.study.series],
        "fingerprint": plan.fingerprint,
        "root": plan.root,
    }


def summarise(
    entries: Mapping[str, Entry], findings: Sequence[Finding], counts: Mapping[str, int], wanted: Wanted
) -> dict[str, Any]:
    """Return the index: format, grid, sequences, studies by pseudonym, findings of no single study, counts."""
    found = Counter(entry["status"] for entry in entries.values())
    return {
        "format": FORMAT,
        "grid": {"spacing_mm": list(wanted.grid.spacing_mm), "size": list(wanted.grid.size)},
        "sequences": list(wanted.sequences),
        "studies": [entries[case_id] for case_id in sorted(entries)],
        "findings": [asdict(each) for each in findings],
        "counts": {status: found[status] for status in ("ready", "warning", "refused")} | dict(counts),
    }


def read_entries(out: Path) -> dict[str, Entry]:
    """Return the studies of the last index by pseudonym; none where it is missing, damaged or of another format."""
    try:
        index = json.loads((out / INDEX).read_text(encoding="utf-8"))
        known = {each["study"]: each for each in index["studies"]} if index["format"] == FORMAT else {}
        return known if all({"fingerprint", "root", "status", "series"} <= set(each) for each in known.values()) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def find_gone(known: Mapping[str, Entry], plans: Sequence[Plan], roots: set[str]) -> list[str]:
    """Return the studies nothing is planned for though the folder they came from, one of `roots`, was looked into."""
    planned = {plan.known.case_id for plan in plans}
    return [case_id for case_id, entry in known.items() if case_id not in planned and entry["root"] in roots]


def list_series(studies: Sequence[Entry]) -> list[dict[str, str]]:
    """Return the rows of the series map."""
    return [
        {
            "case_id": study["study"],
            "series": each["series"],
            "kind": each["kind"],
            "plane": each["plane"],
            "slices": str(each["slices"]),
            "b_values": " ".join(f"{b:g}" for b in each["b_values_s_per_mm2"]),
        }
        for study in studies
        for each in study["series"]
    ]


def _describe_source(source: Source, coverage: float | None, name: NameSeries) -> Entry:
    """Return what a sequence was made from; `snr` of acquired images only, `coverage` as a share of the box."""
    snr = estimate_snr(sitk.GetArrayViewFromImage(source.image)) if source.text.startswith("acquired") else None
    return {
        "source": source.text,
        "series": [name(each) for each in source.series],
        "b_value_s_per_mm2": source.b_value_s_per_mm2,
        "fitted_to_s_per_mm2": list(source.fitted_to_s_per_mm2),
        "spacing_mm": _get_spacing(source.image),
        "size": list(source.image.GetSize()[::-1]),
        "coverage": coverage,
        "snr": None if snr is None else round(snr, 1),
    }


def _describe_series(series: Series, name: NameSeries) -> Entry:
    return {
        "series": name(series),
        "kind": series.kind,
        "plane": series.plane,
        "slices": len(series.slices),
        "b_values_s_per_mm2": list(series.b_values_s_per_mm2),
        "reason": series.reason,
    }


def _get_spacing(image: sitk.Image) -> list[float]:
    return [round(each, 4) for each in image.GetSpacing()[::-1]]
