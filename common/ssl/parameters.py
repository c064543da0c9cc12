"""What a person may set for each self-supervised method; plain dataclasses, so that neither torch nor pydantic is
needed.
"""

from dataclasses import dataclass
from typing import Literal

from prostafed.common.settings import Settings, setting

_KERNEL = (
    "when two cases are alike: 'delta' equal majority label; 'rbf' close mean PI-RADS; 'product' that, and close PSA "
    "density and age where both are known; each times the lesser confidence"
)
_CONFIDENCE = (
    "confidence of a case, f the majority fraction of its reads: 'paper' 2 (f - 1/2), 'code' f, 'none' 1 if it was "
    "read; under 'paper' and 'code' a case without a majority below or above PI-RADS 3 is unlabelled"
)


def _require(settings: Settings, above_zero: tuple[str, ...] = (), at_least_zero: tuple[str, ...] = ()) -> None:
    for name in (*above_zero, *at_least_zero):
        value = getattr(settings, name)
        if value < 0 or (value == 0 and name in above_zero):
            bound = "above 0" if name in above_zero else "at least 0"
            raise ValueError(f"{name} must be {bound}, found {value}.")


def _require_momentum(momentum: float) -> None:
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in [0, 1), found {momentum}.")


@dataclass(frozen=True)
class PairParameters(Settings):
    """What all methods have that compare the projections of two views."""

    projection_size: int = setting(64, "length of a projection")
    learned_transforms: bool = setting(
        False, "whether the strengths of the views' transformations are learnt, with PI-RADS as supervision"
    )

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        if self.projection_size < 2:
            raise ValueError(f"projection_size must be at least 2, found {self.projection_size}.")


@dataclass(frozen=True)
class KernelParameters(PairParameters):
    """What all methods have that compare the metadata of two cases."""

    kernel: Literal["delta", "rbf", "product"] = setting("rbf", _KERNEL)
    confidence: Literal["paper", "code", "none"] = setting("none", _CONFIDENCE)
    single_read_confidence: float = setting(0.1, "eps in (0, 1/7), confidence of a case with one read under 'paper'")
    pirads_width: float = setting(1.0, "sigma of the RBF on mean PI-RADS")
    psa_density_width: float = setting(0.1, "sigma of the RBF on PSA density, ng/ml per ml")
    age_width_years: float = setting(10.0, "sigma of the RBF on age")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        super().__post_init__()
        _require(self, above_zero=("pirads_width", "psa_density_width", "age_width_years"))
        if not 0 < self.single_read_confidence < 1 / 7:
            raise ValueError(f"single_read_confidence must lie in (0, 1/7), found {self.single_read_confidence}.")


@dataclass(frozen=True)
class AlignmentUniformityParameters(KernelParameters):
    """Conditional alignment and uniformity (Dufumier et al. 2021)."""

    scale: float = setting(1.0, "t of uniformity, exp(-t d2)")
    uniformity_weight: float = setting(1.0, "lambda_u, weight of uniformity")
    alignment_weight: float = setting(1.0, "lambda_a, weight of conditional alignment")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        super().__post_init__()
        _require(self, above_zero=("scale",), at_least_zero=("uniformity_weight", "alignment_weight"))


@dataclass(frozen=True)
class ConditionalParameters(AlignmentUniformityParameters):
    """Decoupled conditional contrastive learning (Ruppli et al. 2023)."""

    kernel: Literal["delta", "rbf", "product"] = setting("delta", _KERNEL)
    confidence: Literal["paper", "code", "none"] = setting("paper", _CONFIDENCE)


@dataclass(frozen=True)
class YAwareParameters(KernelParameters):
    """y-aware InfoNCE (Dufumier et al. 2021)."""

    temperature: float = setting(0.1, "tau of the softmax")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        super().__post_init__()
        _require(self, above_zero=("temperature",))


@dataclass(frozen=True)
class PriorUniformityParameters(KernelParameters):
    """Decoupled uniformity with a prior kernel (Dufumier et al. 2023)."""

    scale: float = setting(2.0, "t of uniformity, exp(-t d2)")
    regularisation: float = setting(0.01, "lambda of the kernel's inverse; larger trusts the metadata less")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        super().__post_init__()
        _require(self, above_zero=("scale", "regularisation"))


@dataclass(frozen=True)
class SimclrParameters(PairParameters):
    """SimCLR (Chen et al. 2020)."""

    temperature: float = setting(0.1, "tau of the softmax")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        super().__post_init__()
        _require(self, above_zero=("temperature",))


@dataclass(frozen=True)
class MocoParameters(PairParameters):
    """Momentum contrast (He et al. 2020)."""

    temperature: float = setting(0.2, "tau of the softmax")
    momentum: float = setting(0.99, "share of itself the momentum encoder keeps at each step")
    queue_size: int = setting(128, "keys of past batches kept as negatives; best below the number of a site's cases")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        super().__post_init__()
        _require(self, above_zero=("temperature", "queue_size"))
        _require_momentum(self.momentum)


@dataclass(frozen=True)
class ByolParameters(PairParameters):
    """Bootstrap your own latent (Grill et al. 2020)."""

    momentum: float = setting(0.99, "share of itself the target encoder keeps at each step")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        super().__post_init__()
        _require_momentum(self.momentum)


@dataclass(frozen=True)
class VicregParameters(PairParameters):
    """Variance-invariance-covariance regularisation (Bardes, Ponce, LeCun 2022)."""

    invariance_weight: float = setting(25.0, "lambda, weight of the distance between the views of a case")
    variance_weight: float = setting(25.0, "mu, weight of keeping the standard deviation of every coordinate above 1")
    covariance_weight: float = setting(1.0, "nu, weight of decorrelating the coordinates")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        super().__post_init__()
        _require(self, at_least_zero=("invariance_weight", "variance_weight", "covariance_weight"))


@dataclass(frozen=True)
class BarlowParameters(PairParameters):
    """Barlow Twins (Zbontar et al. 2021)."""

    redundancy_weight: float = setting(0.005, "lambda, weight of decorrelating the coordinates")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        super().__post_init__()
        _require(self, at_least_zero=("redundancy_weight",))


@dataclass(frozen=True)
class MaskParameters(Settings):
    """What all methods have that hide blocks of the volume."""

    masked_fraction: float = setting(0.5, "fraction of blocks hidden from the encoder")
    block_mm: float = setting(12.0, "edge of a hidden block, in mm along each axis")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        if not 0 < self.masked_fraction < 1:
            raise ValueError(f"masked_fraction must lie in (0, 1), found {self.masked_fraction}.")
        _require(self, above_zero=("block_mm",))


@dataclass(frozen=True)
class RestoreParameters(MaskParameters):
    """Masked and corrupted volume restoration."""

    noise: float = setting(0.1, "standard deviation of the noise added to what stays visible")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        super().__post_init__()
        _require(self, at_least_zero=("noise",))


@dataclass(frozen=True)
class SparseParameters(MaskParameters):
    """Sparse masked modelling (Tian et al. 2023)."""

    masked_fraction: float = setting(0.6, "fraction of blocks hidden from the encoder")
