"""A simulation from two files to a run folder; stopped anywhere it goes on to the same numbers."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prostafed.common.errors import CheckpointError, ConfigurationError, DataError, RoundError
from prostafed.common.imaging.case_folder import write_case
from prostafed.common.models.checkpoint import read_checkpoint
from prostafed.common.shell.progress import Event, RoundDone, Step
from prostafed.common.study import Study, parse_study
from prostafed.simulations.federation.federation_file import CasesSite, Federation
from prostafed.simulations.federation.hospitals import prepare_hospital
from prostafed.simulations.run.arms import ArmRun
from prostafed.simulations.run.engine import ENGINES, Engine
from prostafed.simulations.run.simulation import Simulation, Watchers, run_simulation


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def untimed(run: Path) -> list[dict[str, Any]]:
    return [{**row, "seconds": None} for row in read_lines(run / "rounds.jsonl")]


def assert_same_run(run: Path, whole: Path) -> None:
    assert untimed(run) == untimed(whole)
    assert (run / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert (run / "predictions.jsonl").read_text() == (whole / "predictions.jsonl").read_text()
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_the_run_folder_holds_what_was_promised(finished_run: Path, study: Study) -> None:
    assert json.loads((finished_run / "study.json").read_text()) == {
        "study": study.model_dump(mode="json"),
        "hash": study.hash(),
    }
    record = json.loads((finished_run / "run.json").read_text())
    assert record["state"] == "finished"
    assert {"versions", "commit", "data_fingerprint", "seconds", "bytes", "command"} <= set(record)
    coordinator = json.loads((finished_run / "arms" / "federated" / "run.json").read_text())
    assert (coordinator["state"], coordinator["bytes"]) == ("finished", record["bytes"])
    rounds = read_lines(finished_run / "rounds.jsonl")
    assert {row["arm"] for row in rounds} == {"federated", "local", "pooled"}
    assert sum(row["bytes_up"] for row in rounds if row["arm"] == "federated") == record["bytes"]["up"] > 0
    evaluations = read_lines(finished_run / "evaluations.jsonl")
    assert {(row["arm"], row["stage"], row["round"], row["last"]) for row in evaluations} == {
        (arm, 2, number, number == 2) for arm in ("federated", "local", "pooled") for number in (1, 2)
    }
    down = sum(row["bytes_down"] for row in [*rounds, *evaluations] if row["arm"] == "federated")
    assert down == record["bytes"]["down"] > record["bytes"]["up"], "evaluations send the model down too"
    metrics = read_table(finished_run / "metrics.csv")
    assert list(metrics[0]) == ["arm", "stage", "round", "site", "split", "metric", "value", "n"]
    assert {row["site"] for row in metrics if row["arm"] == "pooled" and row["split"] == "test"} >= {"north", "south"}
    assert (finished_run / "report.html").stat().st_size > 10_000
    assert {path.name for path in (finished_run / "examples").iterdir()} == {
        f"{site}-{number}.npz" for site in ("north", "south") for number in (1, 2)
    }


def test_only_the_encoder_and_the_projection_travel(finished_run: Path) -> None:
    for name, groups in (("model", {"encoder"}), ("checkpoint", {"global/encoder"})):
        tensors, _ = read_checkpoint(finished_run / "arms" / "federated" / f"{name}.safetensors")
        assert {tensor.split(".")[0] for tensor in tensors} == groups
    kept, _ = read_checkpoint(next((finished_run / "arms/federated/sites/north/memory").rglob("stage-2/round-00002.*")))
    assert {tensor.split(".")[0] for tensor in kept} == {"head"}


def test_every_arm_is_tested_on_the_same_patients(finished_run: Path) -> None:
    predictions = read_lines(finished_run / "predictions.jsonl")
    tested = {
        arm: sorted((row["site"], row["case_id"]) for row in predictions if row["arm"] == arm)
        for arm in ("federated", "local", "pooled")
    }
    assert tested["federated"] == tested["local"] == tested["pooled"]
    assert len(tested["federated"]) == 6


def stop_after(count: int, kind: type[Step | RoundDone]) -> Callable[[Event], None]:
    seen = 0

    def on_event(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, kind)
        if seen == count:
            seen += 1
            raise KeyboardInterrupt

    return on_event


# After 15 steps north has finished the last round and south has not: north is asked for the same round again.
@pytest.mark.parametrize(("count", "kind"), [(1, Step), (15, Step), (2, RoundDone), (11, RoundDone)])
def test_interrupted_and_resumed_it_gives_the_same_numbers(
    study: Study,
    federation: Federation,
    cache: Path,
    tmp_path: Path,
    finished_run: Path,
    count: int,
    kind: type[Step | RoundDone],
) -> None:
    simulation = Simulation(study, federation, tmp_path / "run", cache)
    with pytest.raises(KeyboardInterrupt):
        run_simulation(simulation, resume=False, watchers=Watchers(on_event=stop_after(count, kind)))
    assert json.loads((simulation.out / "run.json").read_text())["state"] == "interrupted"
    assert not list(simulation.out.rglob("*.part")), "a half-written file was left"
    run_simulation(simulation, resume=True, watchers=Watchers())
    assert_same_run(simulation.out, finished_run)


def test_order_of_sites_does_not_change_the_model(
    study: Study, federation: Federation, cache: Path, tmp_path: Path, finished_run: Path
) -> None:
    swapped = Federation(site=federation.site[::-1])
    alone = study.model_copy(update={"arms": study.arms.model_copy(update={"compare": ()})})
    run_simulation(Simulation(alone, swapped, tmp_path / "run", cache), resume=False, watchers=Watchers())
    tensors, _ = read_checkpoint(tmp_path / "run" / "model.safetensors")
    for name, array in read_checkpoint(finished_run / "model.safetensors")[0].items():
        np.testing.assert_array_equal(tensors[name], array)


def test_a_run_is_not_overwritten_and_not_resumed_as_another(
    study: Study, federation: Federation, cache: Path, finished_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="holds a run already"):
        run_simulation(Simulation(study, federation, finished_run, cache), resume=False, watchers=Watchers())
    other = study.model_copy(update={"seed": 4})
    with pytest.raises(CheckpointError, match="a run of another study"):
        run_simulation(Simulation(other, federation, finished_run, cache), resume=True, watchers=Watchers())
    smaller = federation.model_copy(update={"site": federation.site[:1]})
    with pytest.raises(CheckpointError, match="a run of another federation"):
        run_simulation(Simulation(study, smaller, finished_run, cache), resume=True, watchers=Watchers())
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="not a run's"):
        run_simulation(Simulation(study, federation, tmp_path, cache), resume=False, watchers=Watchers())
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_missing_site_stops_the_run_below_quorum(
    study: Study, federation: Federation, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prostafed.client.rounds import answer as work

    def refuse(*arguments: object) -> None:
        raise DataError("this hospital has no power")

    monkeypatch.setattr(work, "train_round", refuse)
    said: list[Event] = []
    with pytest.raises(RoundError, match=r"quorum 1.*north: DATA"):
        run_simulation(
            Simulation(study, federation, tmp_path / "run", cache),
            resume=False,
            watchers=Watchers(on_event=said.append),
        )
    assert any("no power" in str(event) for event in said), "the reason is shown to who runs the simulation"
    record = read_lines(tmp_path / "run" / "rounds.jsonl")[-1]
    assert record["aggregated"] is False
    assert "no power" not in json.dumps(record), "but a site's own words do not travel"


def test_a_run_is_not_resumed_on_other_cases(
    study: Study, federation: Federation, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(arm: ArmRun, on_round: object) -> None:
        raise RoundError("Nobody answered.")

    monkeypatch.setitem(ENGINES, "local", lambda cpus, gpus: stop)
    own = shutil.copytree(cache, tmp_path / "cache")
    simulation = Simulation(study, federation, tmp_path / "run", own)
    with pytest.raises(RoundError):
        run_simulation(simulation, resume=False, watchers=Watchers())
    for complete in own.glob("cases/north-*/complete.json"):
        complete.write_text(json.dumps({"fingerprint": "other", "left_out": []}))
    with pytest.raises(CheckpointError, match="those of the federation have changed"):
        run_simulation(simulation, resume=True, watchers=Watchers())


def test_an_arm_that_fails_costs_itself_and_is_resumed(
    study: Study,
    federation: Federation,
    cache: Path,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build, away = ENGINES["local"], ["local-north"]

    def build_failing(cpus: int, gpus: float) -> Engine:
        engine = build(cpus, gpus)

        def run(arm: ArmRun, on_round: Callable[[dict[str, Any]], None]) -> None:
            if arm.run in away:
                raise RoundError("Nobody answered.")
            engine(arm, on_round)

        return run

    monkeypatch.setitem(ENGINES, "local", build_failing)
    simulation = Simulation(study, federation, tmp_path / "run", cache)
    with pytest.raises(RoundError, match=r"The arm local-north failed: Nobody answered. The other arms are in .*html"):
        run_simulation(simulation, resume=False, watchers=Watchers())
    assert {row["arm"] for row in read_lines(simulation.out / "rounds.jsonl")} == {"federated", "local", "pooled"}
    assert "Incomplete run" in (simulation.out / "report.html").read_text()
    away.clear()
    run_simulation(simulation, resume=True, watchers=Watchers())
    assert_same_run(simulation.out, finished_run)


def test_a_hospital_without_labels_takes_part_and_stops_nobody(
    study: Study, federation: Federation, cache: Path, tmp_path: Path
) -> None:
    north = prepare_hospital(federation.site[0], study, cache, lambda *_: None)
    unlabelled = tmp_path / "unlabelled"
    unlabelled.mkdir()
    for index, record in enumerate(north.cases.records):
        plain = replace(record, case_id=f"x{index}", patient_id=f"x{index}", cspca=None, isup=None, masks=())
        write_case(unlabelled, plain, *north.cases.load(index), north.cases.grid, north.cases.sequences)
    east = CasesSite(source="cases", name="east", root=unlabelled)
    both = Federation(site=(federation.site[1], east))
    values = json.loads(study.canonical())
    values["stage"] = [{**stage, "rounds": 1} for stage in values["stage"]]
    values["arms"]["compare"] = ["local", "ensemble"]
    out = tmp_path / "run"
    run_simulation(Simulation(parse_study(json.dumps(values)), both, out, cache), resume=False, watchers=Watchers())
    record = json.loads((out / "run.json").read_text())
    assert record["state"] == "finished"
    assert [line["run"] for line in record["arms_left_out"]] == ["local-east"]
    page = (out / "report.html").read_text()
    assert "Left out of local only" in page
    assert "Incomplete run" not in page
    assert {row["arm"] for row in read_lines(out / "predictions.jsonl")} == {"federated", "local", "ensemble"}


def test_a_study_that_was_refused_leaves_no_folder_in_the_way(
    study: Study, federation: Federation, cache: Path, tmp_path: Path
) -> None:
    values = study.model_dump(mode="json")
    values["stage"][0] |= {"aggregate": "krum", "aggregate_parameters": {}}
    with pytest.raises(ConfigurationError, match=r"Stage 1: krum needs 5 sites, here are 2\. Add sites"):
        Simulation(parse_study(json.dumps(values)), federation, tmp_path / "run", cache)
    assert not (tmp_path / "run").exists()


def test_a_run_that_never_began_can_be_begun_by_another_study(
    study: Study, federation: Federation, tmp_path: Path
) -> None:
    def stop(site: str, done: int, count: int | None) -> None:
        raise KeyboardInterrupt

    other = study.model_copy(update={"seed": 9})
    first, second = (Simulation(each, federation, tmp_path / "run", tmp_path / "cache") for each in (study, other))
    with pytest.raises(KeyboardInterrupt):
        run_simulation(first, resume=False, watchers=Watchers(on_case=stop))
    assert (tmp_path / "run" / "run.json").exists()
    with pytest.raises(ConfigurationError, match="holds a run already"):
        run_simulation(second, resume=False, watchers=Watchers(on_case=stop))
    with pytest.raises(KeyboardInterrupt):
        run_simulation(second, resume=True, watchers=Watchers(on_case=stop))
    assert json.loads((tmp_path / "run" / "study.json").read_text())["hash"] == second.study.hash()
