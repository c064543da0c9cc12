"""The phases of a round at a site: some epochs of one network each."""

from dataclasses import dataclass, replace

from torch import nn

from prostafed.client.rounds.starting import Start
from prostafed.client.rounds.workplace import Workplace
from prostafed.client.training.finetune import Tuning, finetune
from prostafed.client.training.loop import Continuation, Optimisation, TrainingRecord, decayed
from prostafed.client.training.pretrain import pretrain
from prostafed.client.training.step import Adjust
from prostafed.common.exchange.messages import Request
from prostafed.common.imaging.label_share import choose_labelled
from prostafed.common.seeding import derive_seed
from prostafed.common.shell.progress import Step, tell
from prostafed.common.ssl import build_method
from prostafed.common.study import Finetune, Pretrain
from prostafed.common.tasks import build_task

SHARED, HEADS, PERSONAL = "shared", "heads", "personal"  # phases; the names are those in files


@dataclass(frozen=True)
class Phase:
    """A part of a round: some epochs of one network."""

    name: str
    network: nn.ModuleDict
    settings: Optimisation
    tuning: Tuning
    adjust: Adjust | None


def list_phases(workplace: Workplace, request: Request, start: Start) -> list[Phase]:
    """Return what a round trains, in order: with mode "alternate" the heads first (FedRep, Collins et al. 2021), then
    what is shared, with a personal network that last.
    """
    stage = workplace.study.stage[request.stage - 1]
    settings = Optimisation(
        epochs=stage.epochs,
        batch_size=stage.batch_size,
        learning_rate=decayed(stage.learning_rate, request.round, stage.rounds),
        weight_decay=stage.weight_decay,
        seed=derive_seed(workplace.study.seed, request.stage, request.round, workplace.site.name, "training"),
        optimiser=stage.optimiser,
    )
    tuning, phases = Tuning(), []
    if isinstance(stage, Finetune):
        tuning = Tuning(frozen=stage.freezes_encoder(request.round), layer_decay=stage.layer_decay)
        if stage.mode == "alternate":
            heads = replace(settings, epochs=stage.head_epochs, seed=derive_seed(settings.seed, HEADS))
            phases.append(Phase(HEADS, start.network, heads, Tuning(frozen=True), None))
    alternates = bool(phases)
    adjust = start.rule.adjust(start.given)
    phases.append(Phase(SHARED, start.network, settings, replace(tuning, frozen_heads=alternates), adjust))
    if start.rule.personal is not None and start.personal is not None:
        seeded = replace(settings, seed=derive_seed(settings.seed, PERSONAL))
        phases.append(Phase(PERSONAL, start.personal, seeded, tuning, start.rule.personal(start.given)))
    return phases


def choose_cases(workplace: Workplace, request: Request) -> list[int]:
    """Return the training cases a stage uses."""
    stage, chosen = workplace.study.stage[request.stage - 1], workplace.splits["train"]
    if isinstance(stage, Pretrain):
        return list(chosen)
    usable = build_task(stage.task).usable
    return list(choose_labelled(workplace.cases.records, chosen, usable, stage.labels, workplace.study.seed))


def run_phase(
    workplace: Workplace, request: Request, phase: Phase, chosen: list[int], continuation: Continuation
) -> TrainingRecord:
    """Train a phase on the `chosen` cases, and tell its steps."""
    stage, data, device = workplace.study.stage[request.stage - 1], workplace.study.data, workplace.device
    hideable = [data.sequences.index(name) for name in data.allow_missing]

    def on_step(step: int, steps: int, loss: float) -> None:
        tell(Step(workplace.site.name, request.stage, request.round, step, steps, loss))

    cases, settings, spacing_mm = workplace.cases, phase.settings, data.spacing_mm
    if isinstance(stage, Pretrain):
        method = build_method(stage.method, stage.method_parameters())
        return pretrain(
            phase.network,
            method,
            cases,
            chosen,
            spacing_mm,
            settings,
            device,
            on_step,
            hideable,
            continuation=continuation,
        )
    task = build_task(stage.task)
    return finetune(
        phase.network,
        task,
        cases,
        chosen,
        spacing_mm,
        settings,
        device,
        on_step,
        hideable,
        tuning=phase.tuning,
        continuation=continuation,
    )
