"""What a person may set for each self-supervised method; plain dataclasses, so that neither torch nor pydantic is
needed.
"""

from dataclasses import dataclass
from typing import Literal

from prostafed.common.settings import Settings, setting


@dataclass(frozen=True)
class ConditionalParameters(Settings):
    """Decoupled conditional contrastive learning (Ruppli et al. 2023)."""

    scale: float = setting(1.0, "t of decoupled uniformity, exp(-t d2)")
    uniformity_weight: float = setting(1.0, "lambda_u, weight of decoupled uniformity")
    alignment_weight: float = setting(1.0, "lambda_a, weight of conditional alignment")
    confidence: Literal["paper", "code"] = setting(
        "paper", "confidence of a case, f the majority fraction of its reads: 'paper' 2 (f - 1/2), 'code' f"
    )
    single_read_confidence: float = setting(0.1, "eps in (0, 1/7), confidence of a case with one read under 'paper'")
    projection_size: int = setting(64, "length of a projection")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        if self.scale <= 0 or self.uniformity_weight < 0 or self.alignment_weight < 0:
            raise ValueError("scale must be above 0, and the weights at least 0.")
        if not 0 < self.single_read_confidence < 1 / 7:
            raise ValueError(f"single_read_confidence must lie in (0, 1/7), found {self.single_read_confidence}.")
        if self.projection_size < 2:
            raise ValueError(f"projection_size must be at least 2, found {self.projection_size}.")


@dataclass(frozen=True)
class RestoreParameters(Settings):
    """Masked and corrupted volume restoration."""

    masked_fraction: float = setting(0.5, "fraction of blocks hidden from the encoder")
    block_mm: float = setting(12.0, "edge of a hidden block, in mm along each axis")
    noise: float = setting(0.1, "standard deviation of the noise added to what stays visible")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        if not 0 < self.masked_fraction < 1:
            raise ValueError(f"masked_fraction must lie in (0, 1), found {self.masked_fraction}.")
        if self.block_mm <= 0 or self.noise < 0:
            raise ValueError("block_mm must be above 0, and noise at least 0.")
