"""The ENGINES table: where a simulated federation runs. Engines load torch and Flower when they are built,
not before.
"""

from collections.abc import Callable
from typing import Any

from prostafed.common.study import Study
from prostafed.simulations.arms import ArmRun

# (study, what to run, what to do with each round record the engine sees being written)
Engine = Callable[[Study, ArmRun, Callable[[dict[str, Any]], None]], None]


def _build_local(cpus: int, gpus: float) -> Engine:
    from prostafed.simulations.engine.local import run_local

    return lambda study, arm, on_round: run_local(study, arm.run, arm.folder, arm.site_files)


def _build_flower(cpus: int, gpus: float) -> Engine:
    from prostafed.simulations.engine.flower import Resources, run_on_flower

    def run(study: Study, arm: ArmRun, on_round: Callable[[dict[str, Any]], None]) -> None:
        sites, count = arm.folder / "sites", len(arm.site_files)
        resources = Resources(cpus, gpus)
        run_on_flower(study.canonical(), arm.run, arm.folder, sites, count, on_round=on_round, resources=resources)

    return run


# name -> builder (CPUs and GPUs per emulated site)
ENGINES: dict[str, Callable[[int, float], Engine]] = {"local": _build_local, "flower": _build_flower}
