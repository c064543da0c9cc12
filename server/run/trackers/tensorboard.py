"""TensorBoard: tensorboard --logdir RUN/tensorboard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prostafed.common.study import Study

FOLDER = "tensorboard"


class TensorBoard:
    """Event files below a run folder; a resumed run adds one, and a round told again takes the place of the first."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder, self._make = folder, SummaryWriter
        self._writer: Any = None

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a round."""
        if self._writer is None:
            self._writer = self._make(str(self._folder), purge_step=step)  # forget what a killed run wrote beyond
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()


def open_tracker(folder: Path, name: str, study: Study) -> TensorBoard:
    """Return the tracker of a run folder."""
    return TensorBoard(folder / FOLDER)
