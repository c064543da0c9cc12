"""A request to train or to evaluate, resolved: the stage it is for, and all that follows from that."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from prostafed.client.rounds.memory import stage_folder
from prostafed.client.rounds.workplace import Workplace
from prostafed.client.training.machine import Machine, say_once
from prostafed.client.training.objective import Objective, finetuning, pretraining
from prostafed.client.training.optimisers import Tuning
from prostafed.common.errors import CheckpointError, RequestError
from prostafed.common.exchange.messages import Request
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.imaging.label_share import choose_labelled
from prostafed.common.ssl import build_method
from prostafed.common.study import Finetune, Pretrain
from prostafed.common.tasks import build_task
from prostafed.common.tasks.task import Task
from prostafed.common.tensors import hash_tensors


@dataclass(frozen=True)
class Job:
    """A request at a site."""

    workplace: Workplace
    request: Request
    stage: Pretrain | Finetune
    objective: Objective
    task: Task | None = None  # what is judged; None where the stage is self-supervised
    tuning: Tuning = field(default_factory=Tuning)
    head_epochs: int = 0  # of the heads alone, before what is shared
    labels: float = 1.0  # share of the labelled training patients that is used

    @cached_property
    def folder(self) -> Path:
        """Where the site keeps what it makes of the stage."""
        return stage_folder(self.workplace.site.memory, self.request.run, self.request.stage)

    @cached_property
    def digest(self) -> str:
        """The hash of the tensors that were sent."""
        return hash_tensors(self.request.tensors)

    @cached_property
    def key(self) -> str:
        """The hash of the tensors that were sent and of who objects: an answer is given again under the same one."""
        opted_out = "".join(sorted(self.workplace.opted_out))
        return hashlib.sha256(f"{self.digest}{opted_out}".encode()).hexdigest() if opted_out else self.digest

    @cached_property
    def chosen(self) -> list[int]:
        """The indices of the training cases the stage uses."""
        place, usable = self.workplace, self.objective.usable
        return choose_labelled(place.cases.records, place.splits["train"], usable, self.labels, place.study.seed)

    @cached_property
    def learnt(self) -> list[CaseRecord]:
        """The cases that the stage learns from: of those chosen, the ones that its objective can use."""
        records = self.workplace.cases.records
        return [records[index] for index in self.chosen if self.objective.usable(records[index])]

    @cached_property
    def machine(self) -> Machine:
        """How the site trains the stage: in one process where the loss cannot be divided."""
        processes, divisible = self.workplace.site.processes, self.objective.divisible
        if processes > 1 and not divisible:
            say_once("processes is not used: this stage's loss compares the cases of a batch with each other.")
        return replace(self.workplace.machine, ranks=processes if divisible else 1)


def open_job(workplace: Workplace, request: Request) -> Job:
    """Return the job that `request` asks of a site.

    Raises CheckpointError for another study's request, RequestError for a stage or round the study has not.
    """
    study = workplace.study
    if request.study_hash != study.hash():
        raise CheckpointError(
            "The request names another study than the one this run was started with. Start the run again."
        )
    if not 1 <= request.stage <= len(study.stage):
        raise RequestError(f"The request names stage {request.stage}; the study has {len(study.stage)}.")
    stage = study.stage[request.stage - 1]
    if not 1 <= request.round <= stage.rounds:
        raise RequestError(f"The request names round {request.round}; stage {request.stage} has {stage.rounds}.")
    if isinstance(stage, Pretrain):
        return Job(workplace, request, stage, pretraining(build_method(stage.method, stage.method_parameters())))
    task, tuning = build_task(stage.task), Tuning(stage.freezes_encoder(request.round), layer_decay=stage.layer_decay)
    return Job(workplace, request, stage, finetuning(task), task, tuning, stage.head_epochs, stage.labels)
