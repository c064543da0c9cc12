"""The network: encoder, decoder, projection and task heads, checkpoints. The ENCODERS table names every encoder;
nothing here loads torch, `build_encoder` does, when asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from prostafed.common.models.encoder import Encoder, StagePlan


@dataclass(frozen=True)
class EncoderEntry:
    """One line of the table: the module whose `build(sequences, plans, norm, tolerant)` returns the Encoder, the most
    stages it has, and what it is.
    """

    module: str
    most_stages: int
    description: str


ENCODERS: dict[str, EncoderEntry] = {
    "resenc": EncoderEntry("encoder", 7, "residual blocks, channels as `width` says"),
    "mobilenet": EncoderEntry("mobilenet", 5, "MobileNetV2's blocks and channels, which ImageNet weights fit"),
}


def build_encoder(name: str, sequences: int, plans: Sequence[StagePlan], norm: str, tolerant: bool = False) -> Encoder:
    """Return the Encoder that ENCODERS lists under `name`.

    `plans` give its strides and kernels; `tolerant`: cases may lack sequences.
    """
    module = import_module(f"prostafed.common.models.{ENCODERS[name].module}")
    return cast("Encoder", module.build(sequences, plans, norm, tolerant))
