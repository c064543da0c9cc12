"""The default engine: in this process and warm, with the real ServerApp and ClientApp over an in-process Grid."""

from collections.abc import Sequence
from pathlib import Path

from flwr.app import Context, RecordDict

from prostafed.client.app import app as client_app
from prostafed.common.study import Study
from prostafed.server.app import main as server_main
from prostafed.simulations.engine.grid import LocalGrid


def run_local(study: Study, run: str, out: Path, site_files: Sequence[Path]) -> None:
    """Run `study` over the sites whose files are given, into the folder `out`; continues what `out` already holds."""
    config: dict[str, bool | int | float | str] = {
        "study": study.canonical(),
        "run": run,
        "out": str(out),
        "sites": "",
        "sites_expected": str(len(site_files)),
    }
    grid = LocalGrid(client_app, [{"site": str(path)} for path in site_files], config)
    server_main(grid, Context(1, 1, {}, RecordDict(), config))
