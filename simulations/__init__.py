"""Emulated hospitals on one machine, for a researcher. Nothing here loads torch before a simulation begins.

from prostafed.simulations import simulate

run = simulate("study.toml", "federation.toml", "runs/first")
run.results   # a row per metric, arm and site
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from prostafed.common.study import Study
    from prostafed.simulations.federation.federation_file import Federation

__all__ = ["Run", "open_run", "simulate"]

_ModelT = TypeVar("_ModelT")


@dataclass(frozen=True)
class Run:
    """A run in its folder."""

    folder: Path

    @cached_property
    def results(self) -> list[dict[str, Any]]:
        """One row per stage, metric, arm and site: the value on the test patients, its interval, how many patients.

        Rows of scope "site" are a site's; "mean" is the mean over sites, "worst" the worst site.
        """
        from prostafed.server.report import summary_table

        return summary_table(self.folder)

    @property
    def state(self) -> str:
        """How the run stands: "finished", "interrupted", "failed" or "running"."""
        from prostafed.server.records.read import read_run

        return read_run(self.folder).record.state

    @property
    def model(self) -> Path:
        """The tensors that were trained together, by name: a safetensors file."""
        return self.folder / "model.safetensors"

    @property
    def report(self) -> Path:
        """The report, an HTML page."""
        return self.folder / "report.html"


def open_run(folder: str | Path) -> Run:
    """Return the run in `folder`, of a simulation or of a coordinator; raises DataError where it holds none."""
    from prostafed.server.records.read import read_run

    return Run(read_run(Path(folder)).path)


def simulate(
    study: "str | Path | Mapping[str, Any] | Study",
    federation: "str | Path | Mapping[str, Any] | Federation",
    out: str | Path,
    engine: str = "local",
    cache: str | Path | None = None,
    initial: str | Path | None = None,
) -> Run:
    """Run a study over an emulated federation and return the run in the folder `out`.

    `study` and `federation` are paths, the text of a TOML file, tables, or the records themselves. Called again with
    the same study and federation, it continues where it stopped. `engine` is "local" or "flower", `cache` the folder
    of prepared cases, `initial` the file that the study's [initial] names. Progress goes to stderr. Raises
    ConfigurationError where an input is wrong or `out` holds other files, CheckpointError where `out` holds another
    run, RoundError where an arm failed.
    """
    from prostafed.common.study import Study
    from prostafed.simulations.federation.federation_file import Federation, find_roots
    from prostafed.simulations.run import CACHE_VARIABLE, DEFAULT_CACHE
    from prostafed.simulations.run.show import showing
    from prostafed.simulations.run.simulation import Simulation, run_simulation

    learnt = _read(study, Study, "study")
    members = _read(federation, Federation, "federation")
    file = _find_file(federation)
    members = find_roots(members, file.resolve().parent if file else Path.cwd(), str(file or "federation"))
    place = Path(cache or os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE)
    start = Path(initial).resolve() if initial else None
    with showing(learnt) as watchers:
        simulation = Simulation(learnt, members, Path(out), place, engine, initial=start)
        run_simulation(simulation, resume=True, watchers=watchers)
    return Run(Path(out))


def _find_file(given: object) -> Path | None:
    """Return the file that is given; None for a record, a table, or TOML text, which has several lines."""
    return Path(given) if isinstance(given, Path) or (isinstance(given, str) and "\n" not in given) else None


def _read(given: Any, model: type[_ModelT], where: str) -> _ModelT:
    """Return what is given as a `model`; raises ConfigurationError, one sentence per mistake."""
    from prostafed.common.shell.configuration import parse, parse_toml, read_toml

    if file := _find_file(given):
        return read_toml(file, model)
    if isinstance(given, str):
        return parse_toml(given, model, where)
    return given if isinstance(given, model) else parse(given, model, where)
