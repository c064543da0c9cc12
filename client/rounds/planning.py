"""The noise of a study at a site: a plan for each phase of a round, the same in all rounds of a stage."""

from dataclasses import dataclass

from prostafed.client.gate.ledger import find_audit, read_ledger, say_audit, sum_up
from prostafed.client.rounds.job import Job, open_job
from prostafed.client.rounds.workplace import Workplace
from prostafed.client.training.sampling import Noise
from prostafed.common.exchange.messages import Request
from prostafed.common.privacy.accounting import account, solve_noise, with_noise
from prostafed.common.privacy.noise import open_sources
from prostafed.common.privacy.plan import NoisePlan, plan_patients, plan_site, repeat

SHARED, HEADS, PERSONAL = "shared", "heads", "personal"  # phases; the names are those in files
Plans = dict[str, NoisePlan]  # by phase; {}: no noise


@dataclass(frozen=True)
class NoiseCost:
    """What all rounds of a study cost at a site, before the first."""

    epsilon: float  # of the study's unit
    of_patient: float
    multiplier: float
    steps: int  # of all rounds
    patients: int  # who are trained on
    spent: float  # by the patient of the ledger who spent most
    budget: float  # 0: none
    audited: str  # what canaries showed last at this site


def plan_round(job: Job) -> Plans:
    """Return the plans of a round of `job`, their noise solved for over all stages of the study."""
    if job.workplace.study.privacy.unit == "none":
        return {}
    return plan_stages(job.workplace)[job.request.stage - 1]


def plan_stages(place: Workplace) -> list[Plans]:
    """Return the plans of a round of each stage.

    The noise is what the study names or, where it names an epsilon, the least that keeps all rounds of all stages to
    it at this site. Raises ConfigurationError where none does.
    """
    privacy = place.study.privacy
    rough = [_plan_stage(place, number) for number in range(1, len(place.study.stage) + 1)]
    multiplier = privacy.noise
    if multiplier is None:
        assert privacy.epsilon is not None, "checked"
        every = _list_rounds(place, rough)
        multiplier = solve_noise(every, privacy.epsilon, privacy.delta) if every else 0.0
    return [{phase: with_noise(plan, multiplier) for phase, plan in plans.items()} for plans in rough]


def cost_noise(place: Workplace) -> NoiseCost | None:
    """Return what the noise of a study costs at this site, None where it has none; raises ConfigurationError where no
    noise keeps to its epsilon, CheckpointError where the site's ledger is damaged.
    """
    privacy, site = place.study.privacy, place.site.privacy
    if privacy.unit == "none":
        return None
    every = _list_rounds(place, plan_stages(place))
    return NoiseCost(
        epsilon=account(every, privacy.delta, "site" if privacy.unit == "site" else "patient"),
        of_patient=account(every, privacy.delta),
        multiplier=max((plan.noise for plan in every), default=0.0),
        steps=sum(plan.steps for plan in every),
        patients=len({place.cases.records[index].patient_id for index in place.splits["train"]}),
        spent=max((each.epsilon for each in sum_up(place.folder, site.delta)), default=0.0),
        budget=site.epsilon_budget,
        audited=say_audit(find_audit(read_ledger(place.folder))),
    )


def _list_rounds(place: Workplace, plans: list[Plans]) -> list[NoisePlan]:
    stages = zip(place.study.stage, plans, strict=True)
    return [repeat(plan, stage.rounds) for stage, each in stages for plan in each.values()]


def _plan_stage(place: Workplace, number: int) -> Plans:
    """Return the plans of a round, without noise; none where nothing leaves that noise is for, or nobody is there."""
    study, stage = place.study, place.study.stage[number - 1]
    noise = (0.0, study.privacy.clip, study.privacy.delta)
    if study.privacy.unit == "site":
        return {SHARED: plan_site(noise)} if stage.share else {}
    job = open_job(place, Request("train", "", study.hash(), number, 1))
    patients = len({place.cases.records[index].patient_id for index in job.chosen})
    if not patients:
        return {}
    epochs = {HEADS: job.head_epochs, SHARED: stage.epochs}
    return {phase: plan_patients(patients, stage.batch_size, count, noise) for phase, count in epochs.items() if count}


def open_noise(job: Job, plans: Plans, canaries: tuple[bool, ...] = ()) -> dict[str, Noise]:
    """Return how the phases of a round hide patients, and how the update hides a site; by phase.

    What is drawn never comes from the study's seed, which the coordinator knows. At a hospital each attempt draws anew.
    """
    request, site = job.request, job.workplace.site
    return {
        phase: Noise(
            plan,
            open_sources(site.privacy.noise_seed, request.study_hash, request.stage, request.round, site.name, phase),
            canaries if plan.unit == "patient" else (),
        )
        for phase, plan in plans.items()
    }
