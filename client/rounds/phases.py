"""The phases of a round at a site: some epochs of one network each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from torch import nn

from prostafed.client.rounds.job import Job
from prostafed.client.rounds.planning import HEADS, PERSONAL, SHARED
from prostafed.client.rounds.starting import Start
from prostafed.client.training.loop import Continuation, TrainingRecord, decayed, optimise
from prostafed.client.training.optimisers import Optimisation, Tuning
from prostafed.client.training.sampling import Noise
from prostafed.client.training.step import Adjust
from prostafed.common.seeding import derive_seed
from prostafed.common.shell.progress import Step, tell

NO_NOISE: Mapping[str, Noise] = MappingProxyType({})


@dataclass(frozen=True)
class Phase:
    """A part of a round: some epochs of one network."""

    name: str
    network: nn.ModuleDict
    settings: Optimisation
    adjust: Adjust | None
    noise: Noise | None = None  # how it hides patients; None: it does not


def list_phases(job: Job, start: Start, noise: Mapping[str, Noise] = NO_NOISE) -> list[Phase]:
    """Return what a round trains, in order: with mode "alternate" the heads first (FedRep, Collins et al. 2021), then
    what is shared, with a personal network that last. `noise` is by phase; nothing of a personal network ever leaves.
    """
    stage, request, place = job.stage, job.request, job.workplace
    settings = Optimisation(
        epochs=stage.epochs,
        batch_size=stage.batch_size,
        learning_rate=decayed(stage.learning_rate, request.round, stage.rounds),
        weight_decay=stage.weight_decay,
        seed=derive_seed(place.study.seed, request.stage, request.round, place.site.name, "training"),
        optimiser=stage.optimiser,
        tuning=job.tuning,
    )
    heads, personal = (replace(settings, seed=derive_seed(settings.seed, name)) for name in (HEADS, PERSONAL))
    phases = []
    if job.head_epochs:
        heads = replace(heads, epochs=job.head_epochs, tuning=Tuning(frozen=True))
        phases.append(Phase(HEADS, start.network, heads, None, noise.get(HEADS)))
        settings = replace(settings, tuning=replace(job.tuning, frozen_heads=True))
    phases.append(Phase(SHARED, start.network, settings, start.rule.adjust(start.given), noise.get(SHARED)))
    if start.rule.personal is not None and start.personal is not None:
        phases.append(Phase(PERSONAL, start.personal, personal, start.rule.personal(start.given)))
    return phases


def run_phase(job: Job, phase: Phase, continuation: Continuation) -> TrainingRecord:
    """Train a phase on the cases the stage uses, and tell its steps."""
    site, request = job.workplace.site.name, job.request

    def on_step(step: int, steps: int, loss: float) -> None:
        tell(Step(site, request.stage, request.round, step, steps, loss))

    feed = job.workplace.feed(job.chosen)
    if phase.noise is None:
        return optimise(phase.network, job.objective, feed, phase.settings, continuation, on_step)
    from prostafed.client.training.private import optimise_privately  # its library takes seconds to load

    joining = (continuation, on_step)
    return optimise_privately(phase.network, job.objective, feed, phase.settings, phase.noise, joining)
