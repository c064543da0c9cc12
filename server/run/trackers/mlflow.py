"""MLflow, where MLFLOW_TRACKING_URI names a server or folder: pip install 'prostafed[mlflow]'."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prostafed.common.shell.files import write_text
from prostafed.common.study import Study

VARIABLE = "MLFLOW_TRACKING_URI"
EXPERIMENT = "prostafed"
_RUN_FILE = "mlflow-run.txt"  # of a run folder: the id it has there, so that a resumed run goes on in it


class Mlflow:
    """A run at MLflow's tracking server."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._run_id = client, run_id

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Send the figures of a round."""
        for name, value in figures.items():
            self._client.log_metric(self._run_id, name, value, step=step)

    def close(self) -> None:
        """End the run there."""
        self._client.set_terminated(self._run_id)


def open_tracker(folder: Path, name: str, study: Study) -> Mlflow | None:
    """Return the tracker, None where the environment names no server."""
    if not os.environ.get(VARIABLE):
        return None
    from mlflow import MlflowClient

    client = MlflowClient(os.environ[VARIABLE])
    known = folder / _RUN_FILE
    if not known.exists():
        experiment = client.get_experiment_by_name(EXPERIMENT)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
        run = client.create_run(experiment_id, run_name=name)
        client.log_param(run.info.run_id, "study_hash", study.hash())
        write_text(known, run.info.run_id)
    return Mlflow(client, known.read_text(encoding="utf-8"))
