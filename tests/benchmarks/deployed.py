"""Seconds per round of a deployment beside plain Flower's own processes, in one run; no step is trained.

    python tests/benchmarks/deployed.py [--json] [--rounds 5] [--repeats 3] [--idle-s 60] [--payload-mb 0]

Both run on loopback with TLS and enrolled keys, two sites, the same tensors. They take turns, each alone on the
machine. A round is from the first site's training step to that of the next round; it holds all that is not training.
The last line is one JSON object: "idle_percent" of a core, with all connected and no run; "cpu_s_per_round" of the
trees of processes; "peak_mb" of the largest process of each kind. --payload-mb widens the network until its tensors
have so many MB.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # tests share builders

from safetensors.numpy import save_file

from prostafed.common.study import Study, parse_study
from prostafed.common.study.network import build_stage_network, shared_names
from prostafed.common.tensors import Tensors, count_bytes, read_tensors
from prostafed.simulations.federation.federation_file import PhantomSite
from prostafed.simulations.federation.hospitals import Hospital, prepare_hospital, write_site_folder
from tests.benchmarks.systems import flower, ours
from tests.benchmarks.systems.meter import measure_idle, read_cpu_s, watching_memory
from tests.benchmarks.systems.steps import read_steps, split_rounds

SITES = ("north", "south")
System = ours.Ours | flower.Flower


def main() -> None:
    """Run both and print the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rounds", 5), ("repeats", 3), ("cases", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--idle-s", type=float, default=60.0)
    parser.add_argument("--payload-mb", type=float, default=0.0)
    parser.add_argument("--only", choices=("prostafed", "flower"), help="one of the two, to look closer")
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, which is left there")
    parser.add_argument("--json", action="store_true", help="say nothing but the JSON object")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp())
    try:
        print(json.dumps({"benchmark": "deployed", "rows": measure(folder, given)}))
    finally:
        if not given.keep:
            shutil.rmtree(folder)


def measure(folder: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one row per system, the systems in turn within each repeat."""
    study = widen(given.rounds, given.payload_mb)
    tensors = shared_tensors(study)
    save_file(tensors, folder / "tensors.safetensors")
    (folder / "study.json").write_text(study.canonical())
    (folder / "study.toml").write_text(describe_toml(given.rounds, study.model.width))
    hospitals = [
        prepare_hospital(PhantomSite(source="phantom", name=name, cases=given.cases), study, folder, lambda *_: None)
        for name in SITES
    ]
    systems: dict[str, tuple[Callable[[Path], System], Mapping[str, str]]] = {
        "prostafed": (lambda place: start_ours(place, hospitals, folder / "study.toml"), ours.ROLES),
        "flower": (
            lambda place: flower.Flower(place, len(SITES), folder / "tensors.safetensors", given.rounds),
            flower.ROLES,
        ),
    }
    systems = {name: each for name, each in systems.items() if given.only in (None, name)}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in systems}
    for repeat in range(given.repeats):
        for name, (start, roles) in systems.items():
            idle_s = 0.0 if repeat else given.idle_s
            found[name].append(measure_once(partial(start, folder / f"{name}-{repeat}"), roles, given.rounds, idle_s))
            if not given.json:
                print(name, json.dumps(found[name][-1]), flush=True)
    payload_mb = round(count_bytes(tensors) / 1e6, 2)
    rows = [summarise(name, each) | {"payload_mb": payload_mb, "rounds": given.rounds} for name, each in found.items()]
    plain = next((row["round_s"]["median"] for row in rows if row["system"] == "flower"), None)
    return [row | {"ratio_to_flower": round(row["round_s"]["median"] / plain, 3) if plain else None} for row in rows]


def start_ours(place: Path, hospitals: list[Hospital], study_file: Path) -> System:
    """Start a deployment with site folders of its own."""
    sites = [write_site_folder(place.with_name(f"{place.name}-sites") / each.name, each) for each in hospitals]
    return ours.Ours(place, sites, study_file)


def measure_once(start: Callable[[], System], roles: Mapping[str, str], rounds: int, idle_s: float) -> dict[str, Any]:
    """Return what one start and one run of a system took."""
    system = start()
    try:
        idle = measure_idle(system.roots, idle_s) if idle_s else {}
        before = {name: read_cpu_s(pid) for name, pid in system.roots.items()}
        began = time.time()
        with watching_memory(list(system.roots.values()), roles) as peak_mb:
            system.run("benchmark")
        took_s = time.time() - began
        cpu = {name: round((read_cpu_s(pid) - before[name]) / rounds, 3) for name, pid in system.roots.items()}
        steps = read_steps(system.steps)
        if len(steps) != rounds * len(SITES):
            raise RuntimeError(f"Expected {rounds} rounds of {len(SITES)} sites, found {len(steps)} steps.")
        return {
            "ready_s": system.ready_s,
            "start_s": steps[0] - began,
            "run_s": took_s,
            "round_s": split_rounds(steps, len(SITES)),
            "idle_percent": idle,
            "cpu_s_per_round": cpu,
            "peak_mb": peak_mb,
        }
    finally:
        system.end()


def summarise(name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of a system from what each of its runs gave."""
    rounds = [seconds for each in found for seconds in each["round_s"]]
    medians = {key: round(statistics.median(each[key] for each in found), 3) for key in ("ready_s", "start_s", "run_s")}
    spread = {"median": statistics.median(rounds), "min": min(rounds), "max": max(rounds)}
    return {
        "system": name,
        "round_s": {key: round(value, 3) for key, value in spread.items()},
        **medians,
        "idle_percent": found[0]["idle_percent"],
        "cpu_s_per_round": {
            root: round(statistics.median(each["cpu_s_per_round"][root] for each in found), 3)
            for root in found[0]["cpu_s_per_round"]
        },
        "peak_mb": {role: max(each["peak_mb"].get(role, 0) for each in found) for role in found[0]["peak_mb"]},
        "repeats": len(found),
    }


def widen(rounds: int, payload_mb: float) -> Study:
    """Return a study of one pretraining stage whose shared tensors have at least `payload_mb`."""
    width = 8
    while count_bytes(shared_tensors(study := parse_study(json.dumps(describe(rounds, width))))) < payload_mb * 1e6:
        width += 4
    return study


def describe(rounds: int, width: int) -> dict[str, Any]:
    """Return the study."""
    return {
        "name": "benchmark",
        "data": {"spacing_mm": [6.0, 2.0, 2.0], "size": [8, 32, 32]},
        "model": {"width": width, "resolutions": 3},
        "stage": [{"kind": "pretrain", "rounds": rounds}],
        "round": {"quorum": len(SITES)},
    }


def describe_toml(rounds: int, width: int) -> str:
    """Return the same study as the file that is approved and run."""
    study = describe(rounds, width)
    head, tables = f"name = {json.dumps(study['name'])}\n", ""
    for name in ("data", "model", "round"):
        tables += f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in study[name].items())
    stage = "".join(f"{key} = {json.dumps(value)}\n" for key, value in study["stage"][0].items())
    return f"{head}{tables}[[stage]]\n{stage}"


def shared_tensors(study: Study) -> Tensors:
    """Return the tensors that travel in the study's stage."""
    network = build_stage_network(study, 1)
    tensors = read_tensors(network)
    return {name: tensors[name] for name in shared_names(network, study.stage[0])}


if __name__ == "__main__":
    main()
