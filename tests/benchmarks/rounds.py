"""Seconds per round of the local engine beside the same training without a federation, in one run; generated images.

    python tests/benchmarks/rounds.py [--cases 24] [--rounds 4] [--width 8] [--repeats 3]

The last line is one JSON object. "floor" trains the sites one after the other with the same loop and cases: no
messages, no admission, no aggregation, no files. The difference is what federating costs on one machine.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from prostafed.client.rounds.workplace import open_workplace
from prostafed.client.training.loop import optimise
from prostafed.client.training.objective import pretraining
from prostafed.client.training.optimisers import Optimisation
from prostafed.common.ssl import build_method
from prostafed.common.study import Pretrain, Study, parse_study
from prostafed.common.study.network import build_stage_network
from prostafed.simulations.federation.federation_file import PhantomSite
from prostafed.simulations.federation.hospitals import prepare_hospital, write_site_folder
from prostafed.simulations.run.engine.local import run_local

SITES = ("north", "east", "south")


def main() -> None:
    """Run both and print the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("cases", 24), ("rounds", 4), ("width", 8), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parameters = vars(parser.parse_args())
    study = parse_study(json.dumps(describe_study(parameters["rounds"], parameters["width"])))
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({"benchmark": "rounds", "rows": measure(study, Path(folder), parameters)}))


def describe_study(rounds: int, width: int) -> dict[str, object]:
    """Return a study of one pretraining stage."""
    return {
        "name": "benchmark",
        "data": {"spacing_mm": [3.6, 1.8, 1.8], "size": [12, 40, 40]},
        "model": {"width": width, "resolutions": 4},
        "stage": [{"kind": "pretrain", "rounds": rounds}],
    }


def measure(study: Study, folder: Path, parameters: dict[str, int]) -> list[dict[str, object]]:
    """Return one row per system, the systems in turn within each repeat."""
    sites = [PhantomSite(source="phantom", name=name, cases=parameters["cases"]) for name in SITES]
    hospitals = [prepare_hospital(site, study, folder, lambda *_: None) for site in sites]
    files = [write_site_folder(folder / "sites" / hospital.name, hospital) for hospital in hospitals]
    systems: dict[str, Callable[[int], int]] = {
        "prostafed": lambda repeat: federate(study, files, folder / f"run-{repeat}"),
        "floor": lambda repeat: train_only(study, files),
    }
    for run in systems.values():
        run(-1)  # warm: caches filled, kernels chosen
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    sent = dict.fromkeys(systems, 0)
    for repeat in range(parameters["repeats"]):
        for name, run in systems.items():
            started = time.perf_counter()
            sent[name] = run(repeat)
            seconds[name].append(time.perf_counter() - started)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return [
        {
            "system": name,
            "seconds": round(medians[name], 3),
            "seconds_per_round": round(medians[name] / parameters["rounds"], 3),
            "ratio_to_floor": round(medians[name] / medians["floor"], 3),
            "startup_seconds": 0.0,
            "peak_mb": round(peak_mb),
            "bytes": sent[name],
            **parameters,
        }
        for name in systems
    ]


def federate(study: Study, files: list[Path], out: Path) -> int:
    """Run the federation and return the bytes of tensors both ways."""
    run_local(study, out.name, out, files)
    total = json.loads((out / "run.json").read_text())["bytes"]
    return int(total["up"] + total["down"])


def train_only(study: Study, files: list[Path]) -> int:
    """Train every site for as many rounds, without a federation."""
    stage = study.stage[0]
    assert isinstance(stage, Pretrain)
    method = build_method(stage.method, stage.method_parameters())
    for file in files:
        workplace, network = open_workplace(file, study.canonical()), build_stage_network(study, 1)
        for number in range(stage.rounds):
            settings = Optimisation(stage.epochs, stage.batch_size, stage.learning_rate, stage.weight_decay, number)
            optimise(network, pretraining(method), workplace.feed(workplace.splits["train"]), settings)
    return 0


if __name__ == "__main__":
    main()
