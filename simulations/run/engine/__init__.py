"""The ENGINES table: where a simulated federation runs. Engines load torch and Flower when they are built,
not before.
"""

from collections.abc import Callable

from prostafed.common.errors import ConfigurationError
from prostafed.server.records.lines import RoundLine
from prostafed.simulations.run.arms import ArmRun

# (what to run, what to do with each round record the engine sees being written)
Engine = Callable[[ArmRun, Callable[[RoundLine], None]], None]


def _build_local(cpus: int, gpus: float) -> Engine:
    from prostafed.simulations.run.engine.local import run_local

    def run(arm: ArmRun, on_round: Callable[[RoundLine], None]) -> None:
        run_local(arm.study, arm.run, arm.folder, arm.site_files, arm.initial, arm.faults)

    return run


def _build_flower(cpus: int, gpus: float) -> Engine:
    from prostafed.simulations.run.engine.flower import Resources, run_on_flower

    def run(arm: ArmRun, on_round: Callable[[RoundLine], None]) -> None:
        sites, count = arm.folder / "sites", len(arm.site_files)
        if arm.faults:
            raise ConfigurationError("A federation file's faults are for the engine 'local'. Use it, or take them out.")
        values = {"study": arm.study.canonical(), "run": arm.run, "initial": str(arm.initial or "")}
        run_on_flower(values, arm.folder, sites, count, on_round=on_round, resources=Resources(cpus, gpus))

    return run


# name -> builder (CPUs and GPUs per emulated site)
ENGINES: dict[str, Callable[[int, float], Engine]] = {"local": _build_local, "flower": _build_flower}
