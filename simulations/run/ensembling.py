"""What several networks say of a hospital's patients together: the mean of their predictions.

Two arms are made of it. "ensemble": every hospital's own model, exchanged once (a one-shot baseline; Guha et al. 2019).
"unseen": the hospitals of a federation, each with its own head on the shared encoder, at a hospital that took no part.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from prostafed.client.rounds.answer import write_predictions
from prostafed.client.rounds.job import open_job
from prostafed.client.rounds.starting import load_network
from prostafed.client.rounds.workplace import Workplace, open_workplace
from prostafed.client.training.evaluate import predict
from prostafed.common.exchange.messages import Request
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.study import Finetune, Study
from prostafed.common.tasks import build_task
from prostafed.server.run.checkpoints import read_run_state
from prostafed.simulations.run.arms import ArmRun

CONSENSUS_ARMS = ("ensemble", "unseen")  # also the names of their folders


def write_consensus(study: Study, arms: Sequence[ArmRun], folder: Path) -> None:
    """Write folder/ARM/HOSPITAL.jsonl, predictions of the last stage on test patients, for the arms the study compares.

    A study that ends in pretraining has none. What is there already is not made again. `arms` are those that were
    run: an ensemble is of the hospitals that could learn alone.
    """
    stage = study.stage[-1]
    if not isinstance(stage, Finetune):
        return
    homes = {file.parent.name: file for file in arms[0].site_files}
    local = [arm for arm in arms if arm.arm == "local"]
    for name, site_file in homes.items():
        workplace = open_workplace(site_file, study.canonical())
        if "ensemble" in study.arms.compare and local:
            _write(folder / "ensemble" / f"{name}.jsonl", study, local, workplace)
        without = [arm for arm in arms if arm.unseen == name]
        if without:
            _write(folder / "unseen" / f"{name}.jsonl", study, without, workplace)


def _write(path: Path, study: Study, arms: Sequence[ArmRun], workplace: Workplace) -> None:
    if path.exists():
        return
    networks = [
        load_last(arm, open_workplace(site_file, arm.study.canonical())) for arm in arms for site_file in arm.site_files
    ]
    write_predictions(path, predict_together(study, networks, workplace))


def load_last(arm: ArmRun, workplace: Workplace) -> nn.ModuleDict:
    """Return the network of a site of a run as it is after the last round: shared tensors, own heads."""
    rounds = arm.study.stage[-1].rounds
    tensors = read_run_state(arm.folder, arm.study.hash()).tensors  # all that is sent; the model is what was trained
    request = Request("evaluate", arm.run, arm.study.hash(), len(arm.study.stage), rounds, tensors)
    return load_network(open_job(workplace, request), rounds)


def predict_together(study: Study, networks: Sequence[nn.ModuleDict], workplace: Workplace) -> list[CasePrediction]:
    """Return what the mean of the networks' predictions is worth on the test patients of `workplace`."""
    stage = study.stage[-1]
    assert isinstance(stage, Finetune)
    task, cases = build_task(stage.task), workplace.cases
    feed = workplace.feed(workplace.splits["test"]).choose(task.usable)
    sums: dict[int, npt.NDArray[np.float64]] = {}
    for network in networks:
        for index, found in predict(network, task, feed, stage.batch_size, workplace.machine):
            sums[index] = sums.get(index, 0.0) + found.astype(np.float64)
    return [
        task.assess(mean.astype(np.float32), cases.records[index], cases.load(index)[1], study.data.spacing_mm)
        for index, mean in ((index, sums[index] / len(networks)) for index in feed.chosen)
    ]
