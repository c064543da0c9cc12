"""The coordinator's ServerApp: the shell around `stages.py`."""

from collections.abc import Sequence
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from prostafed.common.errors import ProstafedError
from prostafed.common.shell.files import make_folder, write_json
from prostafed.common.shell.keys import read_public_keys
from prostafed.common.study import parse_study
from prostafed.common.study.weights import load_initial
from prostafed.server.exchange.roster import Roster, Unready
from prostafed.server.records.lines import StateRecord, WaitingLine
from prostafed.server.records.write import locked, measure_exchanges, write_run_record, write_waiting
from prostafed.server.run.stages import run_stages

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the study of the run config to its end; the run folder's state.json says how it ended."""
    config = {name: str(value) for name, value in context.run_config.items()}
    folder = Path(config["out"])
    with locked(make_folder(folder)):
        try:
            expected = int(config["sites_expected"])
            write_run_record(folder, "running", ended=False, sites_expected=expected)
            study = parse_study(config["study"])
            # In a simulation, which has the folder `sites`, everybody is there from the start, and nobody comes back.
            masks_with = (
                Path(config["enrolled"]) if study.privacy.secure_aggregation and config.get("enrolled") else None
            )
            roster = Roster(
                grid,
                study.hash(),
                study.round.deadline_s,
                patient=not config.get("sites"),
                list_enrolled=lambda: read_public_keys(masks_with) if masks_with else {},
            )
            try:
                roster.assemble(expected, lambda unready: write_waiting(folder, _list_waiting(unready)))
            finally:
                write_waiting(folder, {})
            start = Path(config["initial"]) if config.get("initial") else None
            run_stages(study, config["run"], roster, folder, lambda: load_initial(study, start))
        except Exception as error:  # whatever it was, who follows the run is told at once
            said = str(error) if isinstance(error, ProstafedError) else f"{type(error).__name__}: {error}"
            _end(folder, StateRecord(state="failed", error=said))
            raise
        _end(folder, StateRecord(state="finished"))


def _list_waiting(unready: Sequence[Unready]) -> dict[str, WaitingLine]:
    return {each.who: WaitingLine(code=each.code, since=each.since) for each in unready}


def _end(folder: Path, state: StateRecord) -> None:
    write_run_record(folder, state.state, ended=True, **measure_exchanges(folder))
    write_json(folder / "state.json", state.written())
