"""The coordinator's ServerApp: the shell around `stages.py`."""

import os
from collections.abc import Callable
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from prostafed.common.errors import ProstafedError
from prostafed.common.files import make_folder, write_json
from prostafed.common.messages import Reply, Request
from prostafed.common.study import parse_study
from prostafed.server.aggregation import check_aggregators
from prostafed.server.bundle import HOME_VARIABLE
from prostafed.server.rounds import Exchange, ask_sites, find_sites
from prostafed.server.run_folder import write_run_record
from prostafed.server.stages import run_stages

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the study of the run config to its end; the run folder's state.json says how it ended."""
    config = {name: str(value) for name, value in context.run_config.items()}
    folder = Path(config["out"]) if config.get("out") else Path(os.environ[HOME_VARIABLE]) / "runs" / config["run"]
    make_folder(folder)
    try:
        write_run_record(folder, "running")
        study = parse_study(config["study"])
        check_aggregators(study)
        nodes = find_sites(grid, int(config["sites_expected"]), study.round.deadline_s, study.hash())

        def ask(request: Request, on_reply: Callable[[str, Reply], None]) -> Exchange:
            return ask_sites(grid, nodes, request, study.round.deadline_s, on_reply)

        run_stages(study, config["run"], list(nodes), ask, folder)
    except Exception as error:  # whatever it was, who follows the run is told at once
        said = str(error) if isinstance(error, ProstafedError) else f"{type(error).__name__}: {error}"
        write_run_record(folder, "failed")
        write_json(folder / "state.json", {"state": "failed", "error": said})
        raise
    write_run_record(folder, "finished")
    write_json(folder / "state.json", {"state": "finished"})
