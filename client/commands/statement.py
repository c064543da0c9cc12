"""What a person of the hospital reads before approving a study, in plain words."""

import math
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from prostafed.client.gate.admission import find_few
from prostafed.common.shell.keys import say_fingerprint
from prostafed.common.ssl import METHODS
from prostafed.common.ssl.methods import KernelParameters
from prostafed.common.study import Data, Pretrain, Study
from prostafed.common.study.stages import Finetune
from prostafed.common.tasks import TASKS, build_task

if TYPE_CHECKING:
    from prostafed.client.rounds.estimate import StageCost
    from prostafed.client.rounds.planning import NoiseCost
    from prostafed.client.site.site_file import Site
    from prostafed.common.imaging.cases import CaseRecord
    from prostafed.common.imaging.folds import Splits

WIDTH = 100
_GROUPS = {"encoder": "the encoder", "projection": "the projection head", "predictor": "the predictor"}
_UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"))


@dataclass(frozen=True)
class Facts:
    """What a statement tells of the site and the study."""

    study: Study
    site: "Site"
    indexed: "Sequence[CaseRecord]"
    admitted: "Sequence[CaseRecord]"
    splits: "Splits"
    device: str
    costs: "Sequence[StageCost]"
    rounds: int  # that would be approved
    until: str
    noise: "NoiseCost | None" = None  # of the study; None: it has none
    peers: Mapping[str, str] = field(default_factory=dict)  # who masks with the site: name -> public key


def write_statement(facts: Facts) -> str:
    """Return the statement: a heading a question, sentences below it."""
    parts = {
        "What is trained": _say_training(facts.study),
        "On which cases": _say_cases(facts),
        "How often": _say_rounds(facts),
        "What leaves the hospital": _say_leaving(facts),
        **({"With whom updates are masked": _say_peers(facts)} if facts.peers else {}),
        "What it costs in privacy": say_privacy(facts.study, facts.noise),
        "How long it takes here": _say_time(facts),
        "What disk it needs": [
            f"About {_say_bytes(sum(cost.kept_bytes for cost in facts.costs))} in {facts.site.memory} for each run."
        ],
        "How long the approval holds": [
            f"Until {facts.until}, for {_count(facts.rounds, 'round')} of training at most.",
            "For this study alone: one that differs in anything waits for an approval of its own.",
            f"You can withdraw it at any time: prostafed-site withdraw {facts.study.name}",
        ],
    }
    title = f"The study {facts.study.name} (hash {facts.study.hash()[:12]}), at the site {facts.site.name}."
    return "\n".join([title, *(f"\n{head}\n" + "\n".join(map(_wrap, lines)) for head, lines in parts.items())])


def say_privacy(study: Study, cost: "NoiseCost | None" = None) -> list[str]:
    """Return what a study costs in privacy; `cost` is that of its noise at this site."""
    privacy = study.privacy
    if privacy.unit == "none" or cost is None:
        return [
            f"No noise is added to what leaves. So no bound (epsilon) can be given on what the weights of {study.name} "
            "tell of a patient. Attacks on weights can sometimes tell whether somebody was trained on, or rebuild an "
            "image. Approve only if you trust the coordinator with that."
        ]
    whose = "one patient, with all studies of the patient" if privacy.unit == "patient" else "the whole site"
    lines = [
        f"Noise hides {whose}. All rounds together cost epsilon = {cost.epsilon:.3g} at delta = {privacy.delta:g}, "
        f"with a noise multiplier of {cost.multiplier:g} and a clip of {privacy.clip:g}, in {cost.steps:,} noised "
        "steps. Smaller is safer.",
    ]
    if privacy.unit == "site":
        lines.append(f"For one patient it is epsilon = {cost.of_patient:.3g}.")
    spent = f"{cost.spent:.3g}" if math.isfinite(cost.spent) else "without bound, since a round had no noise"
    lines.append(
        f"What patients here have spent already, by the ledger, is at most {spent}. "
        + (f"Your budget is {cost.budget:g}." if cost.budget else "You have set no budget (epsilon_budget).")
    )
    lines.append(f"Epsilon audited here, a lower bound, in the last run with canaries: {cost.audited}.")
    if privacy.delta * cost.patients > 0.1:
        lines.append(f"Delta is large for {cost.patients} patients: it should be far below {1 / cost.patients:.1g}.")
    lines.append(
        "The noise does not cover the metrics of evaluations, the numbers of cases, and which patients are trained on."
    )
    return lines


def _say_training(study: Study) -> list[str]:
    sequences = ", ".join(study.data.sequences)
    start = (
        "random weights" if study.initial.weights == "random" else f"a file that you named ({study.initial.weights})"
    )
    lines = [f"A network that reads prostate MRI ({sequences}), together with other hospitals. It starts from {start}."]
    for number, stage in enumerate(study.stage, start=1):
        many = (
            f"Stage {number}, {_count(stage.rounds, 'round')} of {_count(stage.epochs, 'pass', 'es')} over the cases:"
        )
        lines.append(f"{many} {_LEARNING[stage.kind](stage)}")
    return lines


def _say_pretraining(stage: Pretrain) -> str:
    family, parameters = import_module(METHODS[stage.method].module).ABOUT.family, stage.method_parameters()
    reports = ""
    if isinstance(parameters, KernelParameters) or getattr(parameters, "learned_transforms", False):
        more = ", PSA density and age" if getattr(parameters, "kernel", "") == "product" else ""
        reports = f" and from the PI-RADS scores{more} of reports"
    return f"it learns from images{reports}, not from contours. Method: {stage.method} ({family})."


def _say_finetuning(stage: Finetune) -> str:
    sentence, annotation = build_task(stage.task).sentence, TASKS[stage.task].annotation
    return f"it learns from images and {annotation}. Task: {stage.task}. The model {sentence[0].lower()}{sentence[1:]}."


# A stage's kind -> how its learning is said, and what is told after its evaluations.
_LEARNING: Mapping[str, Callable[[Any], str]] = {"pretrain": _say_pretraining, "finetune": _say_finetuning}


def _say_cases(facts: Facts) -> list[str]:
    patients = len({record.patient_id for record in facts.admitted})
    lines = [
        f"{len(facts.admitted)} of the {_count(len(facts.indexed), 'indexed case')}, of {_count(patients, 'patient')}."
    ]
    if left_out := Counter(say_lacking(record, facts.study.data) for record in facts.indexed):
        left_out.pop("", None)
        lines += [f"Left out: {count}, without {lacking}." for lacking, count in sorted(left_out.items())]
    sides = {
        split: len({facts.admitted[index].patient_id for index in chosen}) for split, chosen in facts.splits.items()
    }
    lines.append(
        f"Patients trained on: {sides['train']}; followed during training: {sides['validation']}; "
        f"kept for the last test: {sides['test']}."
    )
    minimum = facts.site.privacy.minimum_cohort
    for cost in facts.costs:
        lines.append(
            f"Stage {cost.number} trains on {_count(cost.cases, 'case')} of {_count(cost.patients, 'patient')}."
        )
        if few := find_few(cost.patients, minimum):
            lines.append(f"This site will decline stage {cost.number}. {few}")
    return lines


def say_lacking(record: "CaseRecord", data: Data) -> str:
    """Return which sequences a case lacks that the study needs, "" where it lacks none."""
    return " and ".join(name for name in data.sequences if name not in (*record.sequences, *data.allow_missing))


def _say_rounds(facts: Facts) -> list[str]:
    own = sum(stage.rounds for stage in facts.study.stage)
    steps = sum(cost.steps * stage.rounds for cost, stage in zip(facts.costs, facts.study.stage, strict=True))
    stopped = " It will be stopped before its end: you allow fewer." if facts.rounds < own else ""
    return [f"The study has {_count(own, 'round')}, {_count(steps, 'step')} of training here in all.{stopped}"]


def _say_leaving(facts: Facts) -> list[str]:
    study, site = facts.study, facts.site
    lines = [
        "No image, no mask, no report, no name, number, date or pseudonym of a patient, no prediction of a single one."
    ]
    if site.server:
        lines.append(
            f"All goes to the coordinator, {site.server.address}. It combines the weights of all hospitals and sends "
            "what comes of it to all of them."
        )
    for cost in facts.costs:
        if not cost.values:
            lines.append(f"After each round of stage {cost.number}: no weights.")
            continue
        groups = ", ".join(_GROUPS.get(group, group) for group in cost.groups)
        lines.append(
            f"After each round of stage {cost.number}: the weights of {groups}: {cost.values:,} numbers, at most "
            f"{_say_bytes(cost.sent_bytes)}."
        )
    lines.append("Beside them: on how many cases and in how many steps it trained, always; the mean loss.")
    judged = [(number, stage.task) for number, stage in enumerate(study.stage, start=1) if stage.kind == "finetune"]
    lines += [_say_metrics(number, task) for number, task in judged]
    lines.append(f"A number that rests on fewer than {site.minimum_cell} patients is withheld (minimum_cell).")
    lines.append(
        "At the start of a run: patients by csPCa, PI-RADS, age, PSA, volume and sequences in classes, and vendors of "
        "scanners (share_cohort is on)."
        if site.share_cohort
        else "Nothing of who the patients are (share_cohort is off)."
    )
    return [*lines, "The page what-leaves.md of the documentation has the whole list."]


def _say_metrics(number: int, name: str) -> str:
    task = build_task(name)
    cspca, histograms = (
        (", how many with csPCa", "; of test patients also histograms of the scores") if task.judges_cspca else ("", "")
    )
    return (
        f"In stage {number}, of validation patients after rounds and of test patients at the end: how many they are"
        f"{cspca}, statistics with intervals ({', '.join(task.metrics)} and others){histograms}."
    )


def _say_time(facts: Facts) -> list[str]:
    lines, total = [], 0.0
    for cost, stage in zip(facts.costs, facts.study.stage, strict=True):
        total += (seconds := cost.round_s * stage.rounds)
        lines.append(
            f"Stage {cost.number}: about {say_duration(cost.round_s)} a round ({_count(cost.steps, 'step')} of "
            f"{cost.step_s:.2g} s), {say_duration(seconds)} in all."
        )
    processes = f" with one process; you have {facts.site.processes}" if facts.site.processes > 1 else ""
    measured = f"One step of each stage was measured on this machine ({facts.device}){processes}."
    return [*lines, f"Training in all: about {say_duration(total)}. {measured} Evaluations and waiting come on top."]


def _say_peers(facts: Facts) -> list[str]:
    return [
        "Each hospital adds masks to its update that cancel in the sum: the coordinator learns the sum alone, as long "
        "as it does not hold the keys of more than half of these. Names and fingerprints of their keys:",
        *(f"{name}: {say_fingerprint(line)}" for name, line in sorted(facts.peers.items())),
        "Ask a hospital by telephone if you doubt its key. One that joins later takes part once you approve again.",
    ]


def say_duration(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    for unit, name in _UNITS:
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} seconds" if seconds >= 2 else f"{seconds:.1f} seconds"


def _wrap(line: str) -> str:
    return textwrap.fill(
        line,
        WIDTH,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _say_bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _count(count: int, what: str, plural: str = "s") -> str:
    return f"{count} {what}{'' if count == 1 else plural}"
