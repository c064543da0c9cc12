"""From a finished run to a model bundle with its card; torch is loaded when a run is exported, not before."""

from pathlib import Path
from typing import Any


def export_run(run: Path, out: Path | None = None, min_confidence: float | None = None) -> dict[str, Any]:
    """Write the bundle of the run folder `run` to `out`, by default `run`/bundle, and return what to say of it:
    {bundle, name, task, model_sha256, study_hash, onnx_max_difference, notices}.

    Raises DataError where a file of the run is missing or damaged, CheckpointError where the run holds no whole model.
    """
    from prostafed.common.bundle.record import Thresholds
    from prostafed.common.bundle.write import Draft, write_bundle
    from prostafed.server.export.card import write_card
    from prostafed.server.export.model import read_model
    from prostafed.server.records.read import read_run
    from prostafed.server.report.notices import list_notices
    from prostafed.server.report.results import list_sites, measure

    model = read_model(run)
    folder = read_run(run)
    results = measure(folder)
    notices = list_notices(folder, results, ())
    thresholds = Thresholds() if min_confidence is None else Thresholds(min_confidence=min_confidence)
    draft = Draft(
        study=model.study,
        stage=model.stage,
        tensors=model.tensors,
        where=str(model.path),
        card=write_card(folder, model.study, model.stage, results, notices, thresholds),
        authors=f"The sites of the federation: {', '.join(list_sites(folder)) or 'not recorded'}",
        made=folder.record.finished or "",
        thresholds=thresholds,
    )
    bundle = write_bundle(out or run / "bundle", draft)
    return {
        "bundle": str(bundle.folder),
        "name": bundle.record.name,
        "task": bundle.task,
        "model_sha256": bundle.model_sha256,
        "study_hash": bundle.record.study_hash,
        "onnx_max_difference": bundle.record.onnx_max_difference,
        "notices": [notice.title for notice in notices],
    }
