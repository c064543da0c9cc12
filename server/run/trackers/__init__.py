"""Where people already look: each round's figures, as curves. One adapter per program, in the TRACKERS table.

TensorBoard is always written, below the run folder; MLflow where MLFLOW_TRACKING_URI says to. What a tracker is told is
what the run folder holds: a tracker that fails is said so once and left out, the run goes on.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from prostafed.common.study import Study
from prostafed.server.records.lines import EvaluationLine, MetricLine, RoundLine
from prostafed.server.run.trackers import mlflow, tensorboard

logger = logging.getLogger("prostafed.server")


class Tracker(Protocol):
    """Takes figures by name, round by round."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of a round; `step` counts rounds over all stages."""

    def close(self) -> None:
        """Write what is not written yet."""


# name -> opener (run folder, run name, study) -> tracker, or None where it is not asked for
TRACKERS: dict[str, Callable[[Path, str, Study], Tracker | None]] = {
    "tensorboard": tensorboard.open_tracker,
    "mlflow": mlflow.open_tracker,
}


class Trackers:
    """Every tracker of a run that works."""

    def __init__(self, folder: Path, name: str, study: Study) -> None:
        self._open: dict[str, Tracker] = {}
        self._rounds = [stage.rounds for stage in study.stage]
        for kind, opener in TRACKERS.items():
            try:
                tracker = opener(folder, name, study)
            except Exception as error:  # whatever a program of others does, a run does not end for it
                logger.warning("%s is left out: %s", kind, error)
                continue
            if tracker is not None:
                self._open[kind] = tracker

    def log(self, record: RoundLine | EvaluationLine, rows: Sequence[MetricLine]) -> None:
        """Tell every tracker of a round or an evaluation: its record and metric rows."""
        step = sum(self._rounds[: record.stage - 1]) + record.round
        figures = name_figures(record, rows)
        for kind in list(self._open):
            try:
                self._open[kind].log(step, figures)
            except Exception as error:
                logger.warning("%s is left out from round %d on: %s", kind, step, error)
                del self._open[kind]

    def close(self) -> None:
        """Close every tracker."""
        for tracker in self._open.values():
            with suppress(Exception):
                tracker.close()


def name_figures(record: RoundLine | EvaluationLine, rows: Sequence[MetricLine]) -> dict[str, float]:
    """Return the figures of a round or an evaluation as "stage-2/validation/auroc/north" -> value, and its own as
    "stage-2/round/seconds".
    """
    stage, trained = f"stage-{record.stage}", record if isinstance(record, RoundLine) else None
    own = {
        "seconds": record.seconds,
        "bytes_up": record.bytes_up,
        "bytes_down": record.bytes_down,
        "replies": len(record.replies),
        "rejections": len(record.rejections),
        **(trained.diagnostics if trained else {}),
    }
    figures = {f"{stage}/{'round' if trained else 'evaluation'}/{name}": float(value) for name, value in own.items()}
    if trained:
        figures |= {f"{stage}/update_norm/{site}": norm for site, norm in trained.norms.items()}
    return figures | {
        f"{stage}/{row.split}/{row.metric}/{row.site}": row.value
        for row in rows
        if not row.metric.endswith(("_low", "_high"))
    }
