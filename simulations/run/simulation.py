"""A simulation from study and federation to a run folder: hospitals, arms, merged records, examples, report."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prostafed.common.errors import CheckpointError, ConfigurationError, ProstafedError, RoundError
from prostafed.common.shell.files import make_folder, write_json
from prostafed.common.shell.progress import Event, Said, listening
from prostafed.common.study import Study
from prostafed.common.study.weights import load_initial
from prostafed.server.records.lines import ArmLeftOut, FederationRecord, RoundLine, RunRecord, SiteLine
from prostafed.server.records.read import read_run_record
from prostafed.server.records.write import check_study, open_run, write_run_record
from prostafed.server.report import write_report
from prostafed.simulations.federation.federation_file import Federation
from prostafed.simulations.federation.hospitals import Hospital, OnCase, combine_fingerprints, prepare_hospital
from prostafed.simulations.federation.overlap import check_overlap
from prostafed.simulations.run.arms import ArmRun, find_few_sites, plan_arms
from prostafed.simulations.run.collect import collect_arms, is_finished
from prostafed.simulations.run.engine import ENGINES
from prostafed.simulations.run.ensembling import write_consensus
from prostafed.simulations.run.example_slices import write_examples


@dataclass(frozen=True)
class Simulation:
    """What is to be run, and where."""

    study: Study
    federation: Federation
    out: Path
    cache: Path
    engine: str = "local"
    cpus_per_site: int = 1
    gpus_per_site: float = 0.0
    command: str = ""
    initial: Path | None = None  # file the encoder starts from, where the study names one

    def __post_init__(self) -> None:
        """Raise ConfigurationError where the engine is unknown, or an aggregator needs more sites than there are."""
        if self.engine not in ENGINES:
            raise ConfigurationError(f"engine is '{self.engine}', expected one of {', '.join(ENGINES)}.")
        if obstacle := find_few_sites(self.study, len(self.federation.site)):
            raise ConfigurationError(obstacle)


@dataclass(frozen=True)
class Watchers:
    """Who is told of progress; nobody by default."""

    on_case: OnCase = lambda site, done, count: None
    on_plan: Callable[[Sequence[ArmRun]], None] = lambda arms: None
    on_arm: Callable[[ArmRun], None] = lambda arm: None
    on_event: Callable[[Event], None] = lambda event: None
    on_round: Callable[[RoundLine], None] = lambda line: None


def run_simulation(simulation: Simulation, resume: bool, watchers: Watchers) -> Path:
    """Run every arm and return the report's path. Interrupted at any moment, it goes on when called again with
    `resume`.

    An arm beside the federation costs only itself: one that its sites cannot run is left out, one that fails is
    resumed with the run. Raises ConfigurationError where `out` holds a run and `resume` is False, CheckpointError where
    that run is another one or its cases have changed, RoundError, once the report is written, where an arm failed.
    """
    if simulation.study.initial.weights != "random" or simulation.initial is not None:
        load_initial(simulation.study, simulation.initial)  # a wrong file is told before anything else is done
    record, out = _open(simulation, resume), simulation.out
    started, state, told = time.monotonic(), "interrupted", dict[str, Any]()
    hospitals: list[Hospital] = []
    arms: list[ArmRun] = []
    failed: dict[str, str] = {}  # run of an arm -> why
    try:
        hospitals += prepare_hospitals(simulation, watchers.on_case)
        fingerprint = _claim_data(out, record, hospitals)
        record = write_run_record(out, state, ended=False, data_fingerprint=fingerprint)
        for hospital in hospitals:
            for text in hospital.left_out:
                watchers.on_event(Said(hospital.name, f"left out: {text}"))
        told["overlap"] = tuple(check_overlap(simulation.federation, hospitals))
        for text in told["overlap"]:
            watchers.on_event(Said("federation", text))
        told["left_out"] = {hospital.name: tuple(hospital.left_out) for hospital in hospitals if hospital.left_out}
        _describe_sites(simulation, hospitals)
        arms = plan_arms(simulation.study, hospitals, simulation.out / "arms", simulation.initial)
        impossible, possible = ([arm for arm in arms if bool(arm.obstacle) is left_out] for left_out in (True, False))
        told["arms_left_out"] = tuple(ArmLeftOut(arm=arm.arm, run=arm.run, why=arm.obstacle) for arm in impossible)
        for arm in impossible:
            watchers.on_event(Said(arm.run, f"left out: {arm.obstacle}"))
        failed = _run_arms(simulation, possible, watchers)
        told["arms_failed"] = failed
        write_examples(simulation.study, arms[0], hospitals, simulation.out / "examples")
        if not failed:
            write_consensus(simulation.study, possible, simulation.out / "arms")
            state = "finished"
    finally:
        told["sent"] = collect_arms(simulation.study, arms, hospitals, out)
        seconds = (record.seconds or 0.0) + time.monotonic() - started
        write_run_record(out, state, ended=True, seconds=seconds, **told)
    report = write_report(simulation.out)
    if failed:
        reasons = " ".join(f"The arm {run} failed: {why}" for run, why in failed.items())
        raise RoundError(f"{reasons} The other arms are in {report}.")
    return report


def _run_arms(simulation: Simulation, arms: Sequence[ArmRun], watchers: Watchers) -> dict[str, str]:
    """Run every arm that is not finished and return, by run, why one beside the federation failed."""
    failed: dict[str, str] = {}
    watchers.on_plan(arms)
    engine = ENGINES[simulation.engine](simulation.cpus_per_site, simulation.gpus_per_site)
    for arm in arms:
        watchers.on_arm(arm)
        if is_finished(arm):
            continue
        try:
            with listening(watchers.on_event):
                engine(arm, watchers.on_round)
        except ProstafedError as error:
            if arm.arm == "federated":
                raise
            failed[arm.run] = str(error)
            watchers.on_event(Said(arm.run, str(error)))
    return failed


def check_run(simulation: Simulation) -> None:
    """Raise CheckpointError unless the run in `out` is of this study, this federation and these cases."""
    record = _read_record(simulation)
    _claim_data(simulation.out, record, prepare_hospitals(simulation, lambda site, done, count: None))


def prepare_hospitals(simulation: Simulation, on_case: OnCase) -> list[Hospital]:
    """Return the federation's hospitals, their cases ready."""
    study, cache = simulation.study, simulation.cache
    return [prepare_hospital(site, study, cache, on_case) for site in simulation.federation.site]


def _claim_data(out: Path, record: RunRecord, hospitals: Sequence[Hospital]) -> str:
    """Return the fingerprint of the hospitals' cases; raises CheckpointError where the run began with others."""
    fingerprint = combine_fingerprints(hospitals)
    if record.data_fingerprint not in ("", fingerprint):
        raise CheckpointError(
            f"{out} holds a run on other cases: those of the federation have changed since. "
            "Name another --out, or bring the old cases back."
        )
    return fingerprint


def _open(simulation: Simulation, resume: bool) -> RunRecord:
    """Make the run folder ready and return its run record, "interrupted" until it is finished."""
    out = make_folder(simulation.out)
    if (out / "run.json").exists():
        if not resume:
            raise ConfigurationError(f"{out} holds a run already. Add --resume to continue it, or name another --out.")
        if (out / "arms").exists():
            _read_record(simulation)
        else:  # nothing was trained yet: a study that was refused may be another one now
            (out / "study.json").unlink(missing_ok=True)
            (out / "run.json").unlink()
        for half_written in out.rglob(".*.part"):  # of a run that was killed
            half_written.unlink()
    elif any(out.iterdir()):
        raise ConfigurationError(f"{out} holds files that are not a run's. Name an empty or new folder as --out.")
    open_run(out, simulation.study)
    asked = {"engine": simulation.engine, "command": simulation.command}
    federation = simulation.federation.model_dump(mode="json")
    return write_run_record(out, "interrupted", ended=False, federation=federation, **asked)


def _read_record(simulation: Simulation) -> RunRecord:
    """Return the run record in `out`; raises CheckpointError where it is another study's or federation's."""
    out, record = simulation.out, read_run_record(simulation.out)
    check_study(out, simulation.study)
    if record.federation != simulation.federation.model_dump(mode="json"):
        raise CheckpointError(f"{out} holds a run of another federation. Name another --out for this one.")
    return record


def _describe_sites(simulation: Simulation, hospitals: Sequence[Hospital]) -> None:
    """Write federation.json: each site as asked for, with the cases it came to, the title of its set, and named
    "phantom" where they are generated.

    Generated studies can also arrive in a public set's layout; they are called generated all the same.
    """
    sites = tuple(
        SiteLine(
            **site.model_dump(mode="json")
            | {"cases": len(hospital.cases.records), "source": hospital.source, "title": site.title}
        )
        for site, hospital in zip(simulation.federation.site, hospitals, strict=True)
    )
    write_json(simulation.out / "federation.json", FederationRecord(sites=sites).written())
