"""A network: named groups of modules (encoder, projection, decoder, head), each initialised from its own seed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from prostafed.common.models import build_encoder
from prostafed.common.models.encoder import Encoder, plan_stages
from prostafed.common.seeding import derive_seed

# Given the encoder, returns the module of one group.
GroupBuilder = Callable[[Encoder], nn.Module]


def build_network(
    *,
    sequences: int,
    spacing_mm: tuple[float, float, float],
    size: tuple[int, int, int],
    width: int,
    stages: int,
    norm: str,
    groups: Mapping[str, GroupBuilder],
    seed: int,
    stage: int,
    tolerant: bool = False,
    encoder: str = "resenc",
) -> nn.ModuleDict:
    """Return the encoder and the stage's other `groups` as a ModuleDict; tensor names are `group.rest`.

    `tolerant`: cases may lack sequences. `encoder`: a name in ENCODERS; `width` is for those that use it.

    Every group has a seed of its own, so sites and server build the same initial tensors whatever else they build.
    """
    with _seeded(derive_seed(seed, "encoder")):
        built = build_encoder(encoder, sequences, plan_stages(spacing_mm, size, width, stages), norm, tolerant)
    network = nn.ModuleDict({"encoder": built})
    for name, build in groups.items():
        with _seeded(derive_seed(seed, stage, name)):
            network[name] = build(built)
    return network


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator, which layer initialisation reads, and restore it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
