"""The default engine: in this process and warm, with the real ServerApp and ClientApp over an in-process Grid."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from flwr.app import Context, RecordDict

from prostafed.client.app import app as client_app
from prostafed.common.study import Study
from prostafed.server.app import main as server_main
from prostafed.server.run.checkpoints import read_run_state
from prostafed.simulations.federation.faults import Fault, Faults
from prostafed.simulations.run.engine.faulty_grid import FaultyGrid
from prostafed.simulations.run.engine.grid import LocalGrid


def run_local(
    study: Study,
    run: str,
    out: Path,
    site_files: Sequence[Path],
    initial: Path | None = None,
    faults: Mapping[str, Sequence[Fault]] | None = None,
) -> None:
    """Run `study` over the sites whose files are given, into the folder `out`; continues what `out` already holds.

    `initial` is the file the encoder starts from, where the study names one; `faults` is what goes wrong, by
    site.
    """
    config: dict[str, bool | int | float | str] = {
        "study": study.canonical(),
        "run": run,
        "out": str(out),
        "sites": str(site_files[0].parent.parent),
        "initial": str(initial or ""),
    }
    nodes = [{"site": str(path)} for path in site_files]
    grid = LocalGrid(client_app, nodes, config)
    if faults:
        names = [path.parent.name for path in site_files]
        trouble = Faults(faults, study.seed, [stage.rounds for stage in study.stage])
        first = _read_next(study, out, trouble)
        grid = FaultyGrid(client_app, nodes, config, names, trouble, study.round.compress, first)
    config["sites_expected"] = str(len(list(grid.get_node_ids())))  # some may join later
    server_main(grid, Context(1, 1, {}, RecordDict(), config))


def _read_next(study: Study, out: Path, faults: Faults) -> tuple[int, int]:
    """Return stage and round that a run in `out` will ask for next."""
    state = read_run_state(out, study.hash())
    return faults.after(state.stage, state.round) if state.stage else (1, 1)
