"""What every patient was used for: ledger.jsonl beside the site file, chained, and cohorts/HASH.json, the patients of a
round. The hash of a cohort is its file's, and stands in the chained line: who was in it cannot be changed unseen.

Events: "begins", before a round trains; it counts from then on, whatever comes of it. "left", once its answer is kept
to leave. "evaluated": metrics left, which have no noise. Pseudonyms are in the cohort files alone.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prostafed.common.errors import BudgetError, CheckpointError
from prostafed.common.privacy.accounting import account
from prostafed.common.privacy.plan import NoisePlan, read_plan, write_plan
from prostafed.common.shell.chained_file import add_line, read_chained
from prostafed.common.shell.files import holding, make_folder, write_bytes

FILE, COHORTS = "ledger.jsonl", "cohorts"
BEGINS, LEFT, EVALUATED = "begins", "left", "evaluated"
ROUNDING = 1.01  # of what a study promises: the noise is solved for anew where a patient has gone meanwhile


@dataclass(frozen=True)
class Use:
    """What patients are about to be used for. `digest` is of the tensors that were sent."""

    study: str
    run: str
    stage: int
    round: int
    digest: str
    plans: Mapping[str, NoisePlan]  # by phase; none: no noise


@dataclass(frozen=True)
class Limit:
    """What the site allows all studies together, epsilon at delta, and what the study itself promises over all its
    rounds and runs; 0: anything.
    """

    epsilon: float
    delta: float
    of_study: float = 0.0


@dataclass(frozen=True)
class Spent:
    """Patients with the same history, and what it cost them; infinite where a round had no noise."""

    patients: tuple[str, ...]
    studies: tuple[str, ...]
    rounds: int
    evaluations: int
    epsilon: float


def begin(folder: Path, use: Use, patients: Sequence[str], limit: Limit) -> None:
    """Write down, before it starts, that `patients` are trained on. A use of which nothing has left, begun before in
    the same way, is not written again.

    Raises BudgetError where a patient's epsilon would exceed the limit, CheckpointError where the ledger is damaged.
    """
    path = folder / FILE
    said = _describe(folder, use, patients)
    with holding(path.with_suffix(".lock"), wait=True):
        lines = read_chained(path)
        left = {line["of"] for line in lines if line["event"] == LEFT}
        for line in reversed(lines):
            fits = line["event"] == BEGINS and line["number"] not in left
            if fits and {key: line.get(key) for key in said} == said:
                return
        ours = version("prostafed")  # what another release has got wrong, this one may do right
        if broken := next((line for line in lines if not line.get("holds", True) and line["release"] == ours), None):
            raise BudgetError(
                f"The canaries of the run {broken['run']} show an epsilon of {broken['audited']:.3g} at least, and its "
                f"noise was to keep to {broken['accounted']:.3g}: the noise is broken. Nothing was trained. Ask for "
                "another release before anything more leaves."
            )
        if limit.epsilon:
            _check(folder, lines, use, frozenset(patients), limit)
        if limit.of_study and use.plans:
            _check_study(folder, [line for line in lines if line["number"] in left], use, frozenset(patients), limit)
        _add(path, said)


def leave(folder: Path, use: Use, patients: Sequence[str], audited: float | None = None) -> None:
    """Write down that the answer of the round begun last for this very use is kept to leave, unless that was written;
    with it the epsilon that the run's canaries show, where it has some, beside that of its rounds so far.
    """
    path = folder / FILE
    said = _describe(folder, use, patients)
    with holding(path.with_suffix(".lock"), wait=True):
        lines = read_chained(path)
        left = {line["of"] for line in lines if line["event"] == LEFT}
        begun = [line for line in lines if {key: line.get(key) for key in said} == said]
        if begun and begun[-1]["number"] not in left:
            found: dict[str, Any] = {"event": LEFT, "of": begun[-1]["number"], "run": use.run}
            if audited is not None:
                delta = next(iter(use.plans.values())).delta
                accounted = _cost([line for line in lines if line["event"] == BEGINS and line["run"] == use.run], delta)
                found |= {"audited": audited, "accounted": accounted, "holds": audited <= accounted}
                found |= {"release": version("prostafed")}
            _add(path, found)


def evaluate(folder: Path, use: Use, patients: Sequence[str], splits: Sequence[str]) -> None:
    """Write down that metrics of `patients` are about to leave, without noise."""
    path = folder / FILE
    said = {"event": EVALUATED, **{name: value for name, value in vars(use).items() if name != "plans"}}
    said |= {"cohort": _keep_cohort(folder, patients), "patients": len(set(patients)), "splits": list(splits)}
    with holding(path.with_suffix(".lock"), wait=True):
        if not any({key: line.get(key) for key in said} == said for line in read_chained(path)):
            _add(path, {**said, "metrics": "without noise"})


def read_ledger(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a site's ledger; raises CheckpointError where it or a cohort's file was changed."""
    lines = read_chained(folder / FILE)
    for digest in {str(line["cohort"]) for line in lines if "cohort" in line}:
        read_cohort(folder, digest)
    return lines


def read_cohort(folder: Path, digest: str) -> frozenset[str]:
    """Return the pseudonyms of a cohort; raises CheckpointError where its file is missing or not what was written."""
    path = folder / COHORTS / f"{digest}.json"
    content = path.read_bytes() if digest.isalnum() and path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != digest:
        raise CheckpointError(f"{path} is missing or was changed: it says who was trained on. Restore it from a copy.")
    return frozenset(json.loads(content))


def list_contributions(folder: Path, patient: str) -> list[dict[str, Any]]:
    """Return what a patient contributed to, in order: of each run's stage the study, and which rounds trained on the
    patient, which of them left, and in which the patient was evaluated. `folder` is the site's.
    """
    lines = read_ledger(folder)
    left = {line["of"] for line in lines if line["event"] == LEFT}
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    for line in lines:
        if "cohort" not in line or patient not in read_cohort(folder, line["cohort"]):
            continue
        key = (line["study"], line["run"], line["stage"])
        empty: dict[str, Any] = {"study": key[0], "run": key[1], "stage": key[2], "rounds": [], "left": []}
        entry = found.setdefault(key, {**empty, "evaluated": []})
        entry["evaluated" if line["event"] == EVALUATED else "rounds"].append(line["round"])
        if line["number"] in left:
            entry["left"].append(line["round"])
    return [{name: _once(value) for name, value in entry.items()} for entry in found.values()]


def sum_up(folder: Path, delta: float, run: str = "") -> list[Spent]:
    """Return what all patients were used for and what it cost them, those with the same history together, dearest
    first; of one `run`, or of all.
    """
    lines = read_ledger(folder)
    spent = []
    for numbers, patients in _group(folder, [line for line in lines if run in ("", line["run"])]).items():
        of_them = [lines[number - 1] for number in numbers]
        begun = [line for line in of_them if line["event"] == BEGINS]
        studies = tuple(sorted({line["study"] for line in of_them}))
        cost = _cost(begun, delta)
        spent.append(Spent(tuple(sorted(patients)), studies, len(begun), len(of_them) - len(begun), cost))
    return sorted(spent, key=lambda each: (-each.epsilon, each.patients))


def find_audit(lines: Sequence[Mapping[str, Any]], run: str = "") -> Mapping[str, Any] | None:
    """Return the line with what canaries showed last: `audited`, beside what is `accounted`; of a `run`, or of any."""
    return next((line for line in reversed(lines) if "audited" in line and run in ("", line["run"])), None)


def say_audit(line: Mapping[str, Any] | None) -> str:
    """Return in words what canaries showed."""
    if line is None:
        return "not audited: no canaries were planted"
    broken = "" if line["holds"] else ": THE NOISE IS BROKEN"
    return f"canaries show {line['audited']:.3g} at least, accounted are {line['accounted']:.3g}{broken}"


def _check(folder: Path, lines: list[dict[str, Any]], use: Use, patients: frozenset[str], limit: Limit) -> None:
    """Raise BudgetError where `use` costs one of the patients too much."""
    if not use.plans:
        raise BudgetError(
            f"The site's epsilon_budget is {limit.epsilon:g}, and the study adds no noise: its cost has no bound. "
            "Nothing was trained. Ask for a study with noise, or set epsilon_budget = 0 in the site file."
        )
    begun = [line for line in lines if line["event"] == BEGINS]
    histories = [numbers for numbers, group in _group(folder, begun).items() if group & patients]
    for numbers in {(), *histories}:
        history = [lines[number - 1] for number in numbers]
        cost = _cost(history, limit.delta, tuple(use.plans.values()))
        if cost > limit.epsilon:
            raise BudgetError(
                f"Round {use.round} of stage {use.stage} would bring patients to epsilon = {cost:.3g}, by the ledger, "
                f"and the site's epsilon_budget is {limit.epsilon:g}. Nothing was trained. See prostafed-site ledger."
            )


def _check_study(folder: Path, left: list[dict[str, Any]], use: Use, patients: frozenset[str], limit: Limit) -> None:
    """Raise BudgetError where what has left, with `use`, is more than the study promises: a coordinator can have a
    round trained again and again, each time with other noise.
    """
    plans = tuple(use.plans.values())
    of_study = [line for line in left if line["event"] == BEGINS and line["study"] == use.study]
    histories = [numbers for numbers, group in _group(folder, of_study).items() if group & patients]
    numbered = {line["number"]: line for line in of_study}
    for numbers in {(), *histories}:
        before = [read_plan(plan) for number in numbers for plan in numbered[number]["plans"].values()]
        cost = account([*before, *plans], plans[0].delta, plans[0].unit)
        if cost > limit.of_study * ROUNDING:
            raise BudgetError(
                f"The study promises epsilon = {limit.of_study:g} over all its rounds, and round {use.round} of stage "
                f"{use.stage}, trained in whatever run, would bring it to {cost:.3g}. Nothing was trained. A study "
                "that is to be run again needs another seed, and an approval of its own."
            )


def _describe(folder: Path, use: Use, patients: Sequence[str]) -> dict[str, Any]:
    """Return the line of a use that begins; its cohort is kept. Raises CheckpointError where the ledger has gone."""
    path = folder / FILE
    if not (path.exists() and path.stat().st_size) and any((folder / COHORTS).glob("*.json")):
        raise CheckpointError(
            f"{path} is missing or empty, and {folder / COHORTS} is there: what was spent is not known. Restore it "
            f"from a copy; where there never was one, remove {folder / COHORTS}."
        )
    plans = {phase: write_plan(plan) for phase, plan in use.plans.items()}
    said = {"event": BEGINS, **{name: value for name, value in vars(use).items() if name != "plans"}}
    cohort = _keep_cohort(folder, patients)
    return {**said, "cohort": cohort, "patients": len(set(patients)), "plans": plans or "no noise"}


def _cost(begun: Sequence[Mapping[str, Any]], delta: float, more: tuple[NoisePlan, ...] = ()) -> float:
    if any(line["plans"] == "no noise" for line in begun):
        return math.inf
    return account([read_plan(plan) for line in begun for plan in line["plans"].values()] + list(more), delta)


def _group(folder: Path, lines: Sequence[Mapping[str, Any]]) -> dict[tuple[int, ...], frozenset[str]]:
    """Return the patients by the numbers of the lines they are in."""
    cohorts: dict[str, frozenset[str]] = {}
    histories: dict[str, list[int]] = {}
    for line in lines:
        if "cohort" in line:
            cohorts.setdefault(line["cohort"], frozenset())
            cohorts[line["cohort"]] = cohorts[line["cohort"]] or read_cohort(folder, line["cohort"])
            for patient in cohorts[line["cohort"]]:
                histories.setdefault(patient, []).append(line["number"])
    groups: dict[tuple[int, ...], set[str]] = {}
    for patient, numbers in histories.items():
        groups.setdefault(tuple(numbers), set()).add(patient)
    return {numbers: frozenset(patients) for numbers, patients in groups.items()}


def _keep_cohort(folder: Path, patients: Sequence[str]) -> str:
    content = json.dumps(sorted(set(patients))).encode()
    digest = hashlib.sha256(content).hexdigest()
    path = make_folder(folder / COHORTS) / f"{digest}.json"
    if not path.exists():
        write_bytes(path, content, mode=0o600)
    return digest


def _add(path: Path, record: Mapping[str, Any]) -> None:
    add_line(path, {**record, "time": datetime.now(UTC).isoformat(timespec="seconds")})


def _once(value: Any) -> Any:
    return sorted(set(value)) if isinstance(value, list) else value
