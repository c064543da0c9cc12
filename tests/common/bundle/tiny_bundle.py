"""A bundle of an untrained network, small enough to be exported in seconds."""

import json
from pathlib import Path
from typing import Any

from prostafed.common.bundle.record import Bundle, Thresholds
from prostafed.common.bundle.write import Draft, write_bundle
from prostafed.common.imaging.cases import Grid
from prostafed.common.study import Study, parse_study
from prostafed.common.study.network import build_stage_network
from prostafed.common.tensors import Tensors, read_tensors

GRID = Grid((3.0, 0.8, 0.8), (6, 12, 12))


def make_study(task: str = "lesion", grid: Grid = GRID, **data: Any) -> Study:
    """Return a study of one fine-tuning stage whose heads travel."""
    stage = {"kind": "finetune", "task": task, "rounds": 1, "share": ["encoder", "heads"]}
    values = {
        "name": "tiny",
        "data": {"spacing_mm": grid.spacing_mm, "size": grid.size, **data},
        "model": {"width": 4, "resolutions": 2},
        "stage": [stage],
    }
    return parse_study(json.dumps(values))


def make_tensors(study: Study) -> Tensors:
    """Return the untrained network of a study's last stage."""
    return read_tensors(build_stage_network(study, len(study.stage)))


def make_bundle(folder: Path, study: Study, tensors: Tensors | None = None, **thresholds: Any) -> Bundle:
    """Write a bundle of `study`, untrained unless `tensors` are given."""
    draft = Draft(
        study=study,
        stage=len(study.stage),
        tensors=make_tensors(study) if tensors is None else tensors,
        where="the test",
        card="# A card\n",
        authors="nobody",
        thresholds=Thresholds(**thresholds),
    )
    return write_bundle(folder, draft)
