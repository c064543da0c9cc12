"""Cases -> batches -> tensors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from prostafed.common.imaging.augment import hide_sequences
from prostafed.common.imaging.cases import CaseRecord, Cases, Grid
from prostafed.common.seeding import derive_seed


@dataclass(frozen=True)
class Batch:
    """Some cases, loaded."""

    images: Tensor  # (batch, sequence, z, y, x) float32, on the feed's device
    masks: Tensor  # (batch, MASKS, z, y, x) uint8, in main memory; (0,) where they were not read
    records: tuple[CaseRecord, ...]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Feed:
    """The cases a network is trained or judged on; positions count in `chosen`, the indices of its cases."""

    cases: Cases
    chosen: Sequence[int]
    grid: Grid  # the network is made for it
    device: torch.device
    hideable: Sequence[int] = ()  # channels of the sequences that are hidden now and then in training

    def choose(self, usable: Callable[[CaseRecord], bool]) -> "Feed":
        """Return the feed of those of its cases that are `usable`."""
        return replace(self, chosen=[index for index in self.chosen if usable(self.cases.records[index])])

    def load(self, positions: Sequence[int], masks: bool) -> Batch:
        """Return the cases at `positions`, each read once; without `masks` their bytes are not read."""
        indices, drawn = [self.chosen[position] for position in positions], torch.empty(0, dtype=torch.uint8)
        if masks:
            loaded = [self.cases.load(index) for index in indices]
            images, drawn = [image for image, _ in loaded], torch.from_numpy(np.stack([masks for _, masks in loaded]))
        else:
            images = [self.cases.load_image(index) for index in indices]
        stacked = torch.from_numpy(np.stack(images)).to(self.device).float()
        return Batch(stacked, drawn, tuple(self.cases.records[index] for index in indices), self.grid.spacing_mm)

    def draw(self, positions: Sequence[int], masks: bool, generator: Generator) -> Batch:
        """Return `load` for training: with sequences hidden now and then."""
        batch = self.load(positions, masks)
        return replace(batch, images=hide_sequences(batch.images, self.hideable, generator))


def plan_epoch(count: int, batch_size: int, seed: int) -> list[tuple[list[int], int]]:
    """Return a shuffled epoch of `count` positions in batches, each with the seed of all that is drawn for it.

    Batches are as equal as they can be: no batch of one case is left over. No batch's draws depend on another's.
    """
    order = torch.randperm(count, generator=Generator().manual_seed(derive_seed(seed, "order")))
    batches = torch.tensor_split(order, math.ceil(count / batch_size))
    return [(batch.tolist(), derive_seed(seed, step)) for step, batch in enumerate(batches)]
