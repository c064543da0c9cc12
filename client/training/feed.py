"""Cases -> batches -> tensors."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from prostafed.common.imaging.cases import CaseRecord, Cases


def load_batch(cases: Cases, indices: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor, list[CaseRecord]]:
    """Return images (batch, sequence, z, y, x) float32, masks (batch, MASKS, z, y, x) uint8 and the records."""
    images, masks = zip(*(cases.load(index) for index in indices), strict=True)
    return (
        torch.from_numpy(np.stack(images)).to(device).float(),
        torch.from_numpy(np.stack(masks)).to(device),
        [cases.records[index] for index in indices],
    )


def split_batches(count: int, batch_size: int, generator: Generator) -> Iterator[list[int]]:
    """Yield a shuffled epoch in batches as equal as they can be: no batch of one case is left over."""
    order = torch.randperm(count, generator=generator)
    for batch in torch.tensor_split(order, math.ceil(count / batch_size)):
        yield batch.tolist()
