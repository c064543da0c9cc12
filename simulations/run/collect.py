"""From the arms' own run folders to the simulation's: records with an arm column, predictions, the federated model."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.summary import summarise
from prostafed.common.seeding import derive_seed
from prostafed.common.shell.files import write_bytes, write_text
from prostafed.common.study import Finetune, Study
from prostafed.server.records.lines import MetricLine, PredictionLine
from prostafed.server.records.read import list_missing, read_evaluations, read_metrics, read_rounds, read_state
from prostafed.server.records.write import METRIC_COLUMNS, sum_bytes, write_evaluations, write_metrics, write_rounds
from prostafed.simulations.federation.hospitals import POOLED, Hospital
from prostafed.simulations.run.arms import ArmRun
from prostafed.simulations.run.ensembling import CONSENSUS_ARMS


def is_finished(arm: ArmRun) -> bool:
    """Return whether the arm's run came to its end, with nobody missing from a last evaluation."""
    finished = read_state(arm.folder).state == "finished"
    return finished and not list_missing(line for line in read_evaluations(arm.folder) if line.last)


def collect_arms(study: Study, arms: Sequence[ArmRun], hospitals: Sequence[Hospital], out: Path) -> dict[str, int]:
    """Write rounds.jsonl, evaluations.jsonl, metrics.csv, predictions.jsonl, and the federation's model,
    all_patients.json and cohorts.json into `out`; return the federation's bytes on the wire.
    """
    rounds = [line.changed(arm=arm.arm) for arm in arms for line in read_rounds(arm.folder)]
    evaluations = [line.changed(arm=arm.arm) for arm in arms for line in read_evaluations(arm.folder)]
    metrics = [
        line.changed(arm=arm.arm)
        for arm in arms
        for line in read_metrics(arm.folder)
        if not (arm.unseen and line.split == "test")  # of those who took part; judged is the one who did not
    ]
    predictions = [line for arm in arms if not arm.unseen for line in _read_predictions(arm, hospitals)]
    predictions += list(_read_consensus(study, out / "arms"))
    metrics += _score(study, predictions)
    write_rounds(out, rounds)
    write_evaluations(out, evaluations)
    write_metrics(out, metrics, ("arm", *METRIC_COLUMNS))
    write_text(out / "predictions.jsonl", "".join(json.dumps(line.written()) + "\n" for line in predictions))
    for name in ("model.safetensors", "all_patients.json", "cohorts.json"):
        if arms and (arms[0].folder / name).exists():
            write_bytes(out / name, (arms[0].folder / name).read_bytes())
    return sum_bytes(line for line in [*rounds, *evaluations] if line.arm == "federated")


def _read_predictions(arm: ArmRun, hospitals: Sequence[Hospital]) -> Iterator[PredictionLine]:
    """Yield the test predictions that lie at the arm's sites, each under the hospital the case came from."""
    home = {record.case_id: hospital.name for hospital in hospitals for record in hospital.cases.records}
    for number, stage in enumerate(arm.study.stage, start=1):
        if not isinstance(stage, Finetune):
            continue
        for site_file in arm.site_files:
            path = site_file.parent / "memory" / arm.run / f"stage-{number}" / "predictions-test.jsonl"
            for row in _read_lines(path):
                site = home[row["case_id"]]
                yield PredictionLine(arm=arm.arm, stage=number, site=site, split="test", task=stage.task, **row)


def _read_consensus(study: Study, folder: Path) -> Iterator[PredictionLine]:
    """Yield the predictions of the arms that are made of several networks, by hospital."""
    number, stage = len(study.stage), study.stage[-1]
    if not isinstance(stage, Finetune):
        return
    for arm in CONSENSUS_ARMS:
        for path in sorted((folder / arm).glob("*.jsonl")):
            for row in _read_lines(path):
                yield PredictionLine(arm=arm, stage=number, site=path.stem, split="test", task=stage.task, **row)


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        yield json.loads(line)


def _score(study: Study, predictions: Sequence[PredictionLine]) -> list[MetricLine]:
    """Return the test metrics per hospital of the arms no site of which could tell them: the pooled model's one site
    holds all hospitals, and several networks' common prediction is nobody's own.
    """
    groups: dict[tuple[str, int, str], list[CasePrediction]] = defaultdict(list)
    for line in predictions:
        if line.arm in (POOLED, *CONSENSUS_ARMS):
            groups[line.arm, line.stage, line.site].append(line.case())
    lines = []
    for (arm, number, site), members in sorted(groups.items()):
        summary = summarise(members, derive_seed(study.seed, number, site, "bootstrap"))
        key = {"arm": arm, "stage": number, "round": study.stage[number - 1].rounds, "site": site, "split": "test"}
        lines += [MetricLine(**key, metric=name, value=value, n=len(members)) for name, value in summary.items()]
    return lines
