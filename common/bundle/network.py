"""The whole network of a bundle as one module, images -> logits, and what its logits mean."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from prostafed.common.bundle.record import WEIGHTS, Bundle, Thresholds, read_record
from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.models.checkpoint import read_checkpoint
from prostafed.common.study import Finetune, Study
from prostafed.common.study.network import build_stage_network
from prostafed.common.tasks import build_task
from prostafed.common.tasks.answer import CandidateRule
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
        """Return the prediction of each image; see `Task.predict`."""
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


def make_rule(thresholds: Thresholds, spacing_mm: Sequence[float]) -> CandidateRule:
    """Return which candidates are shown on a grid of `spacing_mm`."""
    min_voxels = int(thresholds.min_candidate_mm3 / math.prod(spacing_mm))
    return CandidateRule(thresholds.min_confidence, thresholds.max_candidates, min_voxels)


def check_answers(forward: Forward, name: str, rule: CandidateRule) -> None:
    """Raise ConfigurationError where the task `name`, shown noise, answers otherwise than its entry says: with another
    number of channels, or what is not of its kind.
    """
    task = forward.task
    with torch.no_grad():
        logits = forward(torch.randn((1, *forward.shape), generator=torch.Generator().manual_seed(0)))
    channels = 1 if logits.dim() == 1 else logits.shape[1]
    try:
        if channels != len(task.channels) or task.maps != (logits.shape[2:] == forward.shape[1:]):
            raise ValueError(f"expected logits of its {len(task.channels)} channels, found {tuple(logits.shape)}")
        task.answer(task.predict(logits[0]), rule)
    except ValueError as error:
        raise ConfigurationError(
            f"The task '{name}' does not answer as it says: {error}. Correct its entry."
        ) from error
