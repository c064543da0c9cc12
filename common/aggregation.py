"""The AGGREGATORS table: every way to combine sites, what a study may set for it, and what it asks of the sites.

The server's half of an entry is `build(parameters)` in server/aggregation/MODULE.py, the sites' half, where there is
one, the rule of that name in client/training/rules. Neither torch nor pydantic is needed to read the table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from prostafed.common.settings import Settings, setting

# What a site does beside training and sending; see client/training/rules
SiteRule = Literal["", "prox", "scaffold", "ditto", "fedu", "fedema"]


@dataclass(frozen=True)
class NoParameters(Settings):
    """Nothing to set."""


@dataclass(frozen=True)
class ProxParameters(Settings):
    """FedProx (Li et al. 2020)."""

    mu: float = setting(
        0.01, "mu; half of it times the squared distance to the global model is added to each site's loss"
    )

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        _require_positive(self, "mu")


@dataclass(frozen=True)
class MomentumParameters(Settings):
    """FedAvgM (Hsu et al. 2019)."""

    server_learning_rate: float = setting(1.0, "step along the sites' mean update")
    momentum: float = setting(0.9, "share of the last step that is taken again, in [0, 1)")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        _require_positive(self, "server_learning_rate")
        _require_fraction(self, "momentum")


@dataclass(frozen=True)
class AdagradParameters(Settings):
    """FedAdagrad (Reddi et al. 2021)."""

    server_learning_rate: float = setting(0.1, "eta, step of the server's optimiser")
    beta_1: float = setting(0.0, "decay of the first moment, in [0, 1)")
    tau: float = setting(1e-3, "adaptivity: added to the root of the second moment")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        _require_positive(self, "server_learning_rate", "tau")
        _require_fraction(self, "beta_1")


@dataclass(frozen=True)
class AdamParameters(AdagradParameters):
    """FedAdam and FedYogi (Reddi et al. 2021)."""

    server_learning_rate: float = setting(0.01, "eta, step of the server's optimiser")
    beta_1: float = setting(0.9, "decay of the first moment, in [0, 1)")
    beta_2: float = setting(0.99, "decay of the second moment, in [0, 1)")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        super().__post_init__()
        _require_fraction(self, "beta_2")


@dataclass(frozen=True)
class ScaffoldParameters(Settings):
    """SCAFFOLD (Karimireddy et al. 2020)."""

    server_learning_rate: float = setting(1.0, "eta_g, step along the sites' mean update")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        _require_positive(self, "server_learning_rate")


@dataclass(frozen=True)
class TrimmedMeanParameters(Settings):
    """Coordinate-wise trimmed mean (Yin et al. 2018)."""

    trimmed_fraction: float = setting(
        0.2, "share of the sites left out at each end, in [0, 0.5); of 3 replies or more at least one, unless it is 0"
    )

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        if not 0 <= self.trimmed_fraction < 0.5:
            raise ValueError(f"trimmed_fraction must lie in [0, 0.5), found {self.trimmed_fraction}.")


@dataclass(frozen=True)
class KrumParameters(Settings):
    """Krum (Blanchard et al. 2017)."""

    byzantine: int = setting(1, "sites that may send anything; at least 2 of them + 3 must answer")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        if self.byzantine < 0:
            raise ValueError(f"byzantine must be at least 0, found {self.byzantine}.")

    def fewest_sites(self) -> int:
        """Return the replies without which no site has enough neighbours: 2 x byzantine + 3."""
        return 2 * self.byzantine + 3


@dataclass(frozen=True)
class MultiKrumParameters(KrumParameters):
    """Multi-Krum (Blanchard et al. 2017)."""

    kept: int = setting(0, "sites averaged, never more than answered less the byzantine ones; 0: as many")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        super().__post_init__()
        if self.kept < 0:
            raise ValueError(f"kept must be at least 0, found {self.kept}.")


@dataclass(frozen=True)
class GeometricMedianParameters(Settings):
    """Geometric median (Pillutla, Kakade, Harchaoui 2022, RFA)."""

    iterations: int = setting(100_000, "of the smoothed Weiszfeld algorithm; a round that needs more fails")
    smoothing: float = setting(1e-6, "nu, least distance that is divided by")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        _require_positive(self, "iterations", "smoothing")


@dataclass(frozen=True)
class LDawaParameters(Settings):
    """L-DAWA (Rehman et al. 2023)."""

    warmup_rounds: int = setting(1, "first rounds of the stage that are plain federated averaging")
    normalised: bool = setting(True, "divide by the sum of the cosines; without it norms shrink, as in the paper")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        if self.warmup_rounds < 0:
            raise ValueError(f"warmup_rounds must be at least 0, found {self.warmup_rounds}.")


@dataclass(frozen=True)
class FeduParameters(Settings):
    """FedU (Zhuang et al. 2021)."""

    threshold: float = setting(0.4, "drift of the encoder from which on a site keeps its own predictor")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        _require_positive(self, "threshold")


@dataclass(frozen=True)
class FedemaParameters(Settings):
    """FedEMA (Zhuang, Wen, Zhang 2022)."""

    tau: float = setting(0.7, "share of itself a site keeps where it first drifts; later shares follow its drift")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        _require_fraction(self, "tau")


@dataclass(frozen=True)
class DittoParameters(Settings):
    """Ditto (Li et al. 2021)."""

    pull: float = setting(
        0.1,
        "lambda; half of it times the squared distance to the global model is added to the loss of a site's own model",
    )

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        _require_positive(self, "pull")


@dataclass(frozen=True)
class AggregatorEntry:
    """One line of the table."""

    module: str
    parameters: type[Settings] = NoParameters
    rule: SiteRule = ""
    plain_sgd: bool = False  # its mathematics holds for plain SGD at the sites only
    fewest_sites: Callable[[Any], int] = lambda parameters: 1  # replies without which a round cannot be aggregated
    bears_from: int = 0  # replies from which it can do without a wrong one; of fewer it is but a mean
    sends: str = ""  # prefix of what a site sends beside each floating shared tensor


AGGREGATORS: dict[str, AggregatorEntry] = {
    "fedavg": AggregatorEntry("fedavg"),
    "fedprox": AggregatorEntry("fedavg", ProxParameters, "prox"),
    "fedavgm": AggregatorEntry("fedavgm", MomentumParameters),
    "fedadagrad": AggregatorEntry("adaptive", AdagradParameters),
    "fedadam": AggregatorEntry("adaptive", AdamParameters),
    "fedyogi": AggregatorEntry("adaptive", AdamParameters),
    "scaffold": AggregatorEntry("scaffold", ScaffoldParameters, "scaffold", plain_sgd=True, sends="control."),
    "fednova": AggregatorEntry("fednova", plain_sgd=True),
    "fedmedian": AggregatorEntry("fedmedian", bears_from=3),
    "trimmed_mean": AggregatorEntry("trimmed_mean", TrimmedMeanParameters, bears_from=3),
    "krum": AggregatorEntry("krum", KrumParameters, fewest_sites=KrumParameters.fewest_sites),
    "multi_krum": AggregatorEntry("krum", MultiKrumParameters, fewest_sites=KrumParameters.fewest_sites),
    "geometric_median": AggregatorEntry("geometric_median", GeometricMedianParameters, bears_from=3),
    "l_dawa": AggregatorEntry("l_dawa", LDawaParameters),
    "fedu": AggregatorEntry("fedavg", FeduParameters, "fedu"),
    "fedema": AggregatorEntry("fedavg", FedemaParameters, "fedema"),
    "ditto": AggregatorEntry("fedavg", DittoParameters, "ditto"),
}


def _require_positive(settings: Settings, *names: str) -> None:
    for name in names:
        if getattr(settings, name) <= 0:
            raise ValueError(f"{name} must be above 0, found {getattr(settings, name)}.")


def _require_fraction(settings: Settings, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(settings, name) < 1:
            raise ValueError(f"{name} must lie in [0, 1), found {getattr(settings, name)}.")
