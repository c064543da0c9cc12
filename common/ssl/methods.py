"""The METHODS table: every self-supervised method by name, and what a study may set for it; plain dataclasses, so that
neither torch nor pydantic is needed.
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


@dataclass(frozen=True)
class PairParameters(Settings):
    """What all methods have that compare the projections of two views."""

    projection_size: int = setting(64, "length of a projection", at_least=2)
    learned_transforms: bool = setting(
        False, "whether the strengths of the views' transformations are learnt, with PI-RADS as supervision"
    )


@dataclass(frozen=True)
class KernelParameters(Settings):
    """What all methods have that compare the metadata of two cases."""

    kernel: Literal["delta", "rbf", "product"] = setting("rbf", _KERNEL)
    confidence: Literal["paper", "code", "none"] = setting("none", _CONFIDENCE)
    single_read_confidence: float = setting(
        0.1, "eps, below 1/7: confidence of a case with one read under 'paper'", above=0, below=1 / 7
    )
    pirads_width: float = setting(1.0, "sigma of the RBF on mean PI-RADS", above=0)
    psa_density_width: float = setting(0.1, "sigma of the RBF on PSA density, ng/ml per ml", above=0)
    age_width_years: float = setting(10.0, "sigma of the RBF on age", above=0)


@dataclass(frozen=True)
class AlignmentUniformityParameters(PairParameters, KernelParameters):
    """Conditional alignment and uniformity (Dufumier et al. 2021)."""

    scale: float = setting(1.0, "t of uniformity, exp(-t d2)", above=0)
    uniformity_weight: float = setting(1.0, "lambda_u, weight of uniformity", at_least=0)
    alignment_weight: float = setting(1.0, "lambda_a, weight of conditional alignment", at_least=0)


@dataclass(frozen=True)
class ConditionalParameters(PairParameters, KernelParameters):
    """Decoupled conditional contrastive learning (Ruppli et al. 2023)."""

    kernel: Literal["delta", "rbf", "product"] = setting("delta", _KERNEL)
    confidence: Literal["paper", "code", "none"] = setting("paper", _CONFIDENCE)
    scale: float = setting(1.0, "t of uniformity, exp(-t d2)", above=0)
    uniformity_weight: float = setting(1.0, "lambda_u, weight of uniformity", at_least=0)
    alignment_weight: float = setting(1.0, "lambda_a, weight of conditional alignment", at_least=0)


@dataclass(frozen=True)
class YAwareParameters(PairParameters, KernelParameters):
    """y-aware InfoNCE (Dufumier et al. 2021)."""

    temperature: float = setting(0.1, "tau of the softmax", above=0)


@dataclass(frozen=True)
class PriorUniformityParameters(PairParameters, KernelParameters):
    """Decoupled uniformity with a prior kernel (Dufumier et al. 2023)."""

    scale: float = setting(2.0, "t of uniformity, exp(-t d2)", above=0)
    regularisation: float = setting(0.01, "lambda of the kernel's inverse; larger trusts the metadata less", above=0)


@dataclass(frozen=True)
class SimclrParameters(PairParameters):
    """SimCLR (Chen et al. 2020)."""

    temperature: float = setting(0.1, "tau of the softmax", above=0)


@dataclass(frozen=True)
class MocoParameters(PairParameters):
    """Momentum contrast (He et al. 2020)."""

    temperature: float = setting(0.2, "tau of the softmax", above=0)
    momentum: float = setting(0.99, "share of itself the momentum encoder keeps at each step", at_least=0, below=1)
    queue_size: int = setting(
        128, "keys of past batches kept as negatives; best below the number of a site's cases", above=0
    )


@dataclass(frozen=True)
class ByolParameters(PairParameters):
    """Bootstrap your own latent (Grill et al. 2020)."""

    momentum: float = setting(0.99, "share of itself the target encoder keeps at each step", at_least=0, below=1)


@dataclass(frozen=True)
class VicregParameters(PairParameters):
    """Variance-invariance-covariance regularisation (Bardes, Ponce, LeCun 2022)."""

    invariance_weight: float = setting(25.0, "lambda, weight of the distance between the views of a case", at_least=0)
    variance_weight: float = setting(
        25.0, "mu, weight of keeping the standard deviation of every coordinate above 1", at_least=0
    )
    covariance_weight: float = setting(1.0, "nu, weight of decorrelating the coordinates", at_least=0)


@dataclass(frozen=True)
class BarlowParameters(PairParameters):
    """Barlow Twins (Zbontar et al. 2021)."""

    redundancy_weight: float = setting(0.005, "lambda, weight of decorrelating the coordinates", at_least=0)


@dataclass(frozen=True)
class MaskParameters(Settings):
    """What all methods have that hide blocks of the volume."""

    masked_fraction: float = setting(0.5, "fraction of blocks hidden from the encoder", above=0, below=1)
    block_mm: float = setting(12.0, "edge of a hidden block, in mm along each axis", above=0)


@dataclass(frozen=True)
class RestoreParameters(MaskParameters):
    """Masked and corrupted volume restoration."""

    noise: float = setting(0.1, "standard deviation of the noise added to what stays visible", at_least=0)


@dataclass(frozen=True)
class SparseParameters(MaskParameters):
    """Sparse masked modelling (Tian et al. 2023)."""

    masked_fraction: float = setting(0.6, "fraction of blocks hidden from the encoder", above=0, below=1)


@dataclass(frozen=True)
class MethodEntry:
    """One line of the table: the module whose `build(parameters)` returns the Method, and what a study may
    say of it.
    """

    module: str
    parameters: type[Settings]
    shared: tuple[str, ...]
    predictor: tuple[str, ...] = ()  # a group that may travel too, where the aggregator combines it
    decomposes: bool = False  # whether its loss is a sum over cases, which noise for patients needs


_SSL = "prostafed.common.ssl."
_PAIR = ("encoder", "projection")

METHODS: dict[str, MethodEntry] = {
    "conditional": MethodEntry(_SSL + "conditional", ConditionalParameters, _PAIR),
    "yaware": MethodEntry(_SSL + "yaware", YAwareParameters, _PAIR),
    "alignment_uniformity": MethodEntry(_SSL + "alignment_uniformity", AlignmentUniformityParameters, _PAIR),
    "prior_uniformity": MethodEntry(_SSL + "prior_uniformity", PriorUniformityParameters, _PAIR),
    "simclr": MethodEntry(_SSL + "simclr", SimclrParameters, _PAIR),
    "moco": MethodEntry(_SSL + "moco", MocoParameters, _PAIR),
    "byol": MethodEntry(_SSL + "byol", ByolParameters, _PAIR, ("predictor",), decomposes=True),
    "vicreg": MethodEntry(_SSL + "vicreg", VicregParameters, _PAIR),
    "barlow": MethodEntry(_SSL + "barlow", BarlowParameters, _PAIR),
    "restore": MethodEntry(_SSL + "restore", RestoreParameters, ("encoder",), decomposes=True),
    "sparse": MethodEntry(_SSL + "sparse", SparseParameters, ("encoder",), decomposes=True),
}
