"""The network: encoder, decoder, projection and task heads, checkpoints. The ENCODERS table names every encoder;
nothing here loads torch, `build_encoder` does, when asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch import Tensor

    from prostafed.common.models.encoder import Encoder, StagePlan
    from prostafed.common.tensors import Tensors


@dataclass(frozen=True)
class Weights:
    """Weights of another network that an encoder can start from: the module, by its full name, whose
    `inflate(state, encoder)` returns the encoder's tensors, and what they are.
    """

    module: str
    description: str


@dataclass(frozen=True)
class EncoderEntry:
    """One line of the table: the module, by its full name, whose `build(sequences, plans, norm, tolerant)` returns the
    Encoder, the most resolutions it has, what it is, whether its channels follow `width`, and the weights it takes.
    """

    module: str
    most_resolutions: int
    description: str
    uses_width: bool = True
    weights: Mapping[str, Weights] = field(default_factory=dict)


ENCODERS: dict[str, EncoderEntry] = {
    "resenc": EncoderEntry("prostafed.common.models.encoder", 7, "residual blocks, channels as `width` says"),
    "mobilenet": EncoderEntry(
        "prostafed.common.models.mobilenet",
        5,
        "MobileNetV2's blocks and channels, which ImageNet weights fit",
        uses_width=False,
        weights={
            "imagenet": Weights(
                "prostafed.common.models.imagenet", "the weights of a MobileNetV2 trained on photographs"
            )
        },
    ),
}


def build_encoder(name: str, sequences: int, plans: Sequence[StagePlan], norm: str, tolerant: bool = False) -> Encoder:
    """Return the Encoder that ENCODERS lists under `name`.

    `plans` give its strides and kernels; `tolerant`: cases may lack sequences.
    """
    module = import_module(ENCODERS[name].module)
    return cast("Encoder", module.build(sequences, plans, norm, tolerant))


def list_weights() -> dict[str, Weights]:
    """Return the weights that one encoder or another takes, by name."""
    return {name: weights for entry in ENCODERS.values() for name, weights in entry.weights.items()}


def inflate(name: str, weights: str, state: Mapping[str, Tensor], encoder: Encoder) -> Tensors:
    """Return the tensors of `encoder`, which ENCODERS lists under `name`, started from `weights`, whose state dict
    `state` is; raises CheckpointError where they do not fit.
    """
    module = import_module(ENCODERS[name].weights[weights].module)
    return cast("Tensors", module.inflate(state, encoder))
