"""A simulation from study and federation to a run folder: hospitals, arms, merged records, examples, report."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.files import make_folder, write_json
from prostafed.common.models.initial import load_initial
from prostafed.common.progress import Event, Said, listening
from prostafed.common.provenance import read_commit, read_versions
from prostafed.common.study import Study
from prostafed.server.report import write_report
from prostafed.server.run_folder import Row
from prostafed.simulations.arms import ArmRun, plan_arms
from prostafed.simulations.collect import collect_arms, is_finished
from prostafed.simulations.consensus import write_consensus
from prostafed.simulations.engine import ENGINES
from prostafed.simulations.examples import write_examples
from prostafed.simulations.federation import Federation
from prostafed.simulations.hospitals import Hospital, OnCase, combine_fingerprints, prepare_hospital
from prostafed.simulations.overlap import check_overlap


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


@dataclass(frozen=True)
class Watchers:
    """Who is told of progress; nobody by default."""

    on_case: OnCase = lambda site, done, count: None
    on_plan: Callable[[Sequence[ArmRun]], None] = lambda arms: None
    on_arm: Callable[[ArmRun], None] = lambda arm: None
    on_event: Callable[[Event], None] = lambda event: None
    on_round: Callable[[Row], None] = lambda row: None


def run_simulation(simulation: Simulation, resume: bool, watchers: Watchers) -> Path:
    """Run every arm and return the report's path. Interrupted at any moment, it goes on when called again with
    `resume`.

    Raises ConfigurationError where `out` holds a run and `resume` is False, CheckpointError where that run is another
    one.
    """
    if simulation.study.initial.encoder != "random" or simulation.initial is not None:
        load_initial(simulation.study, simulation.initial)  # a wrong file is told before anything else is done
    record = _open(simulation, resume)
    started = time.monotonic()
    hospitals: list[Hospital] = []
    arms: list[ArmRun] = []
    try:
        for site in simulation.federation.site:
            hospital = prepare_hospital(site, simulation.study, simulation.cache, watchers.on_case)
            hospitals.append(hospital)
            for text in hospital.left_out:
                watchers.on_event(Said(hospital.name, f"left out: {text}"))
        record["overlap"] = check_overlap(simulation.federation, hospitals)
        for text in record["overlap"]:
            watchers.on_event(Said("federation", text))
        record["left_out"] = {hospital.name: list(hospital.left_out) for hospital in hospitals if hospital.left_out}
        record["data_fingerprint"] = combine_fingerprints(hospitals)
        _describe_sites(simulation, hospitals)
        arms = plan_arms(simulation.study, hospitals, simulation.out / "arms", simulation.initial)
        watchers.on_plan(arms)
        engine = ENGINES[simulation.engine](simulation.cpus_per_site, simulation.gpus_per_site)
        for arm in arms:
            watchers.on_arm(arm)
            if not is_finished(arm):
                with listening(watchers.on_event):
                    engine(arm, watchers.on_round)
        write_consensus(simulation.study, arms, simulation.out / "arms")
        write_examples(simulation.study, arms[0], hospitals, simulation.out / "examples")
        record["state"] = "finished"
    finally:
        record["bytes"] = collect_arms(simulation.study, arms, hospitals, simulation.out)
        record["seconds"] += time.monotonic() - started
        record["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(simulation.out / "run.json", record)
    return write_report(simulation.out)


def _open(simulation: Simulation, resume: bool) -> Row:
    """Make the run folder ready and return its run record, "interrupted" until it is finished."""
    out, study = make_folder(simulation.out), simulation.study
    asked = {"study": study.model_dump(mode="json"), "hash": study.hash()}
    federation = simulation.federation.model_dump(mode="json")
    record: Row = {
        "seconds": 0.0,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "bytes": {"up": 0, "down": 0},
    }
    if (out / "run.json").exists():
        if not resume:
            raise ConfigurationError(f"{out} holds a run already. Add --resume to continue it, or name another --out.")
        record = json.loads((out / "run.json").read_text())
        if (json.loads((out / "study.json").read_text()), record["federation"]) != (asked, federation):
            raise CheckpointError(f"{out} holds a run of another study or federation. Name another --out for this one.")
        for half_written in out.rglob(".*.part"):  # of a run that was killed
            half_written.unlink()
    elif any(out.iterdir()):
        raise ConfigurationError(f"{out} holds files that are not a run's. Name an empty or new folder as --out.")
    record |= {
        "versions": read_versions(),
        "commit": read_commit(),
        "engine": simulation.engine,
        "command": simulation.command,
        "data_fingerprint": "",
        "federation": federation,
        "finished": None,
        "state": "interrupted",
    }
    write_json(out / "study.json", asked)
    write_json(out / "run.json", record)
    return record


def _describe_sites(simulation: Simulation, hospitals: Sequence[Hospital]) -> None:
    """Write federation.json: each site as asked for, with the cases it came to, and named "phantom" where they are
    generated.

    Generated studies can also arrive in a public set's layout; they are called generated all the same.
    """
    sites = [
        site.model_dump(mode="json") | {"cases": len(hospital.cases.records), "source": hospital.source}
        for site, hospital in zip(simulation.federation.site, hospitals, strict=True)
    ]
    write_json(simulation.out / "federation.json", {"sites": sites})
