"""A bundle's model on all studies of a PACS export.

OUT/<case>/segmentation.dcm   candidates, or structures, on the T2W; absent where there are none
OUT/<case>/heat_map.dcm       parametric map; of tasks that answer with one
OUT/<case>/report.dcm         structured report, TID 1500
OUT/<case>/preview.png        one slice; shows the patient's image
OUT/<case>/predict.json       the same in figures
OUT/predict.json              all studies
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from prostafed.client.ingest.assemble import Wanted
from prostafed.client.ingest.plan import Plan, Planning, make_plans
from prostafed.client.ingest.scan.headers import read_studies
from prostafed.client.manifest import Manifest
from prostafed.client.predict.algorithm import name_algorithm
from prostafed.client.predict.study import SUMMARY, Entry, Setting, describe_model, predict_study
from prostafed.common.bundle.network import load_forward, make_rule
from prostafed.common.bundle.record import Bundle
from prostafed.common.imaging.cases import Grid, Image
from prostafed.common.shell.files import make_folder, write_json
from prostafed.common.tasks import build_task


@dataclass(frozen=True)
class PredictRequest:
    """What to predict, with what, and where to."""

    dicom: Path  # root of the export
    out: Path
    bundle: Bundle
    secret: bytes
    device: str = "auto"  # as in the site file
    uses: Mapping[str, str] = field(default_factory=dict)  # of series; see `series_map`
    workers: int | None = None  # that read headers


def predict_site(request: PredictRequest, on_study: Callable[[int, int], None] = lambda done, total: None) -> Entry:
    """Return {model, studies (see `study.describe_entry`), findings of no single study, counts}, which is also
    OUT/predict.json; a study that has not changed since the same model saw it is not predicted again.

    Raises ConfigurationError for a folder that cannot be read or written, CheckpointError where the weights do not fit
    the bundle, DataError where a result cannot be written.
    """
    record = request.bundle.record
    predict = _load(request)
    out = make_folder(request.out)
    studies, findings = read_studies(request.dicom, workers=request.workers)
    wanted = Wanted(Grid(record.spacing_mm, record.size), record.sequences, record.allow_missing)
    setting = Setting(
        out=out,
        secret=request.secret,
        bundle=request.bundle,
        algorithm=name_algorithm(request.bundle),
        wanted=wanted,
        uses=request.uses,
        predict=predict,
        read=partial(build_task(record.task).answer, rule=make_rule(record.thresholds, record.spacing_mm)),
    )
    plans = make_plans(Planning(request.secret, request.dicom, Manifest(()), None, "", wanted), studies, request.uses)
    entries, reused = [], 0
    on_study(0, len(plans))
    for done, plan in enumerate(plans, start=1):
        entry = _find_kept(plan, setting)
        reused += entry is not None
        entries.append(entry or predict_study(plan, setting))
        on_study(done, len(plans))
    found = Counter(entry["status"] for entry in entries)
    summary = {
        "model": describe_model(request.bundle),
        "studies": entries,
        "findings": [asdict(each) for each in findings],
        "counts": {status: found[status] for status in ("ready", "warning", "refused")} | {"reused": reused},
    }
    write_json(out / SUMMARY, summary)
    return summary


def _load(request: PredictRequest) -> Callable[[Image], npt.NDArray[np.float32]]:
    name = request.device
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    forward = load_forward(request.bundle, device)

    def predict(image: Image) -> npt.NDArray[np.float32]:
        return forward.predict(torch.from_numpy(image).to(device).float()[None])[0]

    return predict


def _find_kept(plan: Plan, setting: Setting) -> Entry | None:
    """Return the entry of the last call where study, series map and model are the same, and its files are there."""
    folder = setting.out / plan.known.case_id
    try:
        kept: dict[str, Any] = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        same = (kept["fingerprint"], kept["model"]) == (plan.fingerprint, describe_model(setting.bundle))
        same &= "quantities" in kept  # which earlier releases did not write
        if not same or not all((folder / name).is_file() for name in kept["files"]):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {name: value for name, value in kept.items() if name not in ("fingerprint", "model")}
