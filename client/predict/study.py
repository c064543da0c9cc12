"""One study: its case, what the model says of it, and the files of the result."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from pydicom.dataset import Dataset

from prostafed.client.findings import Finding, get_status, make_finding
from prostafed.client.ingest.assemble import Assembled, Wanted, assemble_study
from prostafed.client.ingest.plan import Plan
from prostafed.client.ingest.series_map import apply_uses, name_series
from prostafed.client.predict.algorithm import Algorithm
from prostafed.client.predict.heat_map import make_heat_map
from prostafed.client.predict.placing import Placed, Region, lay_grid, place_answer
from prostafed.client.predict.preview import draw_preview
from prostafed.client.predict.segmentation import make_segmentation
from prostafed.client.predict.source import SourceSeries, read_source
from prostafed.client.predict.structured_report import make_report
from prostafed.common.bundle.record import Bundle
from prostafed.common.imaging.cases import Image
from prostafed.common.shell.files import appearing, write_bytes, write_json
from prostafed.common.shell.quiet import quiet
from prostafed.common.tasks.answer import Answer

SUMMARY = "predict.json"
LOGGERS = ("pydicom", "highdicom")  # of libraries that quote the values of tags
SEGMENTATION, HEAT_MAP, REPORT, PREVIEW = "segmentation.dcm", "heat_map.dcm", "report.dcm", "preview.png"

Predict = Callable[[Image], npt.NDArray[np.float32]]  # image (sequence, z, y, x) -> prediction of `Task.predict`
Read = Callable[[npt.NDArray[np.float32]], Answer]
Entry = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What all studies of a call have in common."""

    out: Path
    secret: bytes
    bundle: Bundle
    algorithm: Algorithm
    wanted: Wanted
    uses: Mapping[str, str]
    predict: Predict
    read: Read


def predict_study(plan: Plan, setting: Setting) -> Entry:
    """Return the entry of a study, its files written to OUT/<case>; see `describe_entry`. A study that cannot be used
    has none, and what was there of it is removed.
    """
    assert plan.study is not None
    case_id, findings, placed = plan.known.case_id, tuple[Finding, ...](), None
    folder = setting.out / case_id
    assembled = Assembled(None)
    try:
        with quiet(*LOGGERS):
            study = apply_uses(plan.study, setting.uses, setting.secret)
            assembled = assemble_study(study, plan.known, setting.wanted, partial(name_series, setting.secret))
            findings = (*plan.findings, *assembled.findings)
            if assembled.case is not None and get_status(findings) != "refused":
                t2w = assembled.sources["t2w"]
                answer = setting.read(setting.predict(assembled.case[1]))
                placed = place_answer(answer, lay_grid(t2w.image, setting.wanted.grid), t2w.image)
                source = read_source(t2w)
                findings = (*findings, *_tell_mended(case_id, source.mended))
                results = make_results(placed, source, t2w.image, setting)
                picture = draw_preview(placed, t2w.image)
    except Exception as error:  # no study may end the call; an error's own words may hold paths and values
        text = (
            f"expected a study results can be made of, found one that stopped it ({type(error).__name__}); report it."
        )
        findings, placed = (*findings, make_finding(case_id, "UNREADABLE", text, "F")), None
    entry = describe_entry(case_id, findings, assembled, placed)
    if placed is None:
        if folder.is_dir():
            shutil.rmtree(folder)
        return entry
    entry["files"] = sorted([*results, PREVIEW, SUMMARY])
    summary = {**entry, "fingerprint": plan.fingerprint, "model": describe_model(setting.bundle)}
    _write(folder, results, picture, summary)
    return entry


def make_results(placed: Placed, source: SourceSeries, t2w: sitk.Image, setting: Setting) -> dict[str, Dataset]:
    """Return the DICOM objects of a result by file name; without a region there is no segmentation."""
    results: dict[str, Dataset] = {}
    segmentation = None
    if placed.regions:
        segmentation = make_segmentation(placed, source, t2w, setting.algorithm)
        results[SEGMENTATION] = segmentation
    if placed.heat is not None:
        results[HEAT_MAP] = make_heat_map(placed.heat, source, t2w, setting.algorithm)
    if placed.score is not None or placed.quantities or placed.regions:
        others = [each for name, each in results.items() if name == HEAT_MAP]
        threshold = setting.bundle.record.thresholds.min_confidence
        results[REPORT] = make_report(placed, source, segmentation, others, setting.algorithm, threshold)
    return results


def describe_entry(case_id: str, findings: tuple[Finding, ...], assembled: Assembled, placed: Placed | None) -> Entry:
    """Return what is said of a study, by pseudonym: {study, status (ready, warning, refused), findings, sequences
    {name: source}, score (of csPCa), quantities, candidates, structures, files}.

    A quantity: {name, label, value, unit}; a candidate: {number, confidence, volume_ml, point_mm (x, y, z; LPS), point,
    first, last (voxels z, y, x of the T2W)}; a structure: {name, volume_ml}.
    """
    regions = placed.regions if placed else ()
    return {
        "study": case_id,
        "status": get_status(findings),
        "findings": [asdict(each) for each in findings],
        "sequences": {name: source.text for name, source in assembled.sources.items()},
        "score": placed and placed.score,
        "quantities": [asdict(each) for each in placed.quantities] if placed else [],
        "candidates": [_describe_candidate(each) for each in regions if each.is_candidate],
        "structures": [
            {"name": each.segment.kind, "volume_ml": round(each.volume_ml, 3)}
            for each in regions
            if not each.is_candidate
        ],
        "files": [],
    }


def describe_model(bundle: Bundle) -> Entry:
    """Return which model a result is of."""
    record = bundle.record
    return {
        "name": record.name,
        "task": record.task,
        "version": bundle.version,
        "model_sha256": bundle.model_sha256,
        "study_hash": record.study_hash,
        "min_confidence": record.thresholds.min_confidence,
    }


def _tell_mended(case_id: str, mended: tuple[str, ...]) -> tuple[Finding, ...]:
    if not mended:
        return ()
    text = f"expected a header that results can take over, found {', '.join(mended)} missing or wrong in the T2W; the "
    text += "results do without, or have a UID of their own: look whether the archive files them with this study."
    return (make_finding(case_id, "HEADER_GAP", text),)


def _describe_candidate(region: Region) -> Entry:
    return {
        "number": region.number,
        "confidence": region.segment.confidence,
        "volume_ml": round(region.volume_ml, 3),
        "point_mm": [round(each, 2) for each in region.point_mm],
        "point": region.location.point,
        "first": region.location.first,
        "last": region.location.last,
    }


def _write(folder: Path, results: Mapping[str, Dataset], picture: bytes, summary: Entry) -> None:
    """Write a result whole or not at all, in the place of the last one."""
    with appearing(folder, replace=True) as temporary, quiet(*LOGGERS):
        for name, dataset in results.items():
            content = BytesIO()
            dataset.save_as(content)
            write_bytes(temporary / name, content.getvalue())
        write_bytes(temporary / PREVIEW, picture)
        write_json(temporary / SUMMARY, summary)
