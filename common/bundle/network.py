"""The whole network of a bundle as one module, images -> logits, and what its logits mean."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from prostafed.common.bundle.record import WEIGHTS, Bundle, read_record
from prostafed.common.errors import CheckpointError
from prostafed.common.models.checkpoint import read_checkpoint
from prostafed.common.study import Finetune, Study
from prostafed.common.study.network import build_stage_network
from prostafed.common.tasks import build_task
from prostafed.common.tensors import Tensors, check_layout, read_tensors, write_tensors


class Forward(nn.Module):
    """A task's network, encoder and heads, behind one `forward`."""

    def __init__(self, study: Study, stage: int) -> None:
        super().__init__()
        self.network = build_stage_network(study, stage)
        section = study.stage[stage - 1]
        assert isinstance(section, Finetune)
        self.task = build_task(section.task)
        self.shape = (len(study.data.sequences), *study.data.size)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of images (batch, sequence, z, y, x): (batch, ...) or, of maps, (batch, channel, z, y, x)."""
        return self.task.outputs(self.network, images)

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[npt.NDArray[np.float32]]:
        """Return the prediction of each image, in [0, 1]; see `Task.predict`."""
        return [self.task.predict(logits) for logits in self(images)]


def build_forward(folder: str | Path) -> Forward:
    """Return the network of the bundle in `folder`, untrained; configs/inference.json names this function."""
    record, study = read_record(Path(folder))
    return Forward(study, record.stage)


def fill(forward: Forward, tensors: Tensors, where: str) -> Forward:
    """Load all of a network's `tensors`; raises CheckpointError, naming `where` they are from, unless they are the
    whole network, all of it finite.
    """
    try:
        check_layout(read_tensors(forward.network), tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error
    if broken := [name for name, array in tensors.items() if not np.isfinite(array).all()]:
        raise CheckpointError(
            f"{where}: expected finite weights, found NaN or infinity in {broken[0]}"
            f"{f' and {len(broken) - 1} more tensors' if len(broken) > 1 else ''}: the training diverged. Run it again "
            "with a lower learning rate."
        )
    write_tensors(forward.network, tensors)
    return forward


def load_forward(bundle: Bundle, device: torch.device) -> Forward:
    """Return the trained network of a bundle on `device`; raises CheckpointError where the weights do not fit it."""
    path = bundle.folder / WEIGHTS
    forward = fill(Forward(bundle.study, bundle.record.stage), read_checkpoint(path)[0], str(path))
    return forward.to(device)


def min_voxels(bundle: Bundle) -> int:
    """Return how many voxels of the bundle's grid a candidate must have more than."""
    return int(bundle.record.thresholds.min_candidate_mm3 / math.prod(bundle.record.spacing_mm))
