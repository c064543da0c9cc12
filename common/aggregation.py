"""The AGGREGATORS table: every way to combine sites, what a study may set for it, and what it asks of the sites.

The server's half of an entry is `build(name, parameters)` in its module, the sites' half, where there is one, the rule
of that name in client/training/rules. Neither torch nor pydantic is needed to read the table. An entry carries every
fact about itself: nothing else knows its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prostafed.common.settings import Settings, setting


@dataclass(frozen=True)
class NoParameters(Settings):
    """Nothing to set."""


@dataclass(frozen=True)
class ProxParameters(Settings):
    """FedProx (Li et al. 2020)."""

    mu: float = setting(
        0.01, "mu; half of it times the squared distance to the global model is added to each site's loss", above=0
    )


@dataclass(frozen=True)
class MomentumParameters(Settings):
    """FedAvgM (Hsu et al. 2019)."""

    server_learning_rate: float = setting(1.0, "step along the sites' mean update", above=0)
    momentum: float = setting(0.9, "share of the last step that is taken again", at_least=0, below=1)


@dataclass(frozen=True)
class AdagradParameters(Settings):
    """FedAdagrad (Reddi et al. 2021)."""

    server_learning_rate: float = setting(0.1, "eta, step of the server's optimiser", above=0)
    beta_1: float = setting(0.0, "decay of the first moment", at_least=0, below=1)
    tau: float = setting(1e-3, "adaptivity: added to the root of the second moment", above=0)


@dataclass(frozen=True)
class AdamParameters(AdagradParameters):
    """FedAdam and FedYogi (Reddi et al. 2021)."""

    server_learning_rate: float = setting(0.01, "eta, step of the server's optimiser", above=0)
    beta_1: float = setting(0.9, "decay of the first moment", at_least=0, below=1)
    beta_2: float = setting(0.99, "decay of the second moment", at_least=0, below=1)


@dataclass(frozen=True)
class ScaffoldParameters(Settings):
    """SCAFFOLD (Karimireddy et al. 2020)."""

    server_learning_rate: float = setting(1.0, "eta_g, step along the sites' mean update", above=0)


@dataclass(frozen=True)
class TrimmedMeanParameters(Settings):
    """Coordinate-wise trimmed mean (Yin et al. 2018)."""

    trimmed_fraction: float = setting(
        0.2,
        "share of the sites left out at each end; of 3 replies or more at least one, unless it is 0",
        at_least=0,
        below=0.5,
    )


@dataclass(frozen=True)
class KrumParameters(Settings):
    """Krum (Blanchard et al. 2017)."""

    byzantine: int = setting(1, "sites that may send anything; at least 2 of them + 3 must answer", at_least=0)

    def fewest_sites(self) -> int:
        """Return the replies without which no site has enough neighbours: 2 x byzantine + 3."""
        return 2 * self.byzantine + 3


@dataclass(frozen=True)
class MultiKrumParameters(KrumParameters):
    """Multi-Krum (Blanchard et al. 2017)."""

    kept: int = setting(0, "sites averaged, never more than answered less the byzantine ones; 0: as many", at_least=0)


@dataclass(frozen=True)
class GeometricMedianParameters(Settings):
    """Geometric median (Pillutla, Kakade, Harchaoui 2022, RFA)."""

    iterations: int = setting(100_000, "of the smoothed Weiszfeld algorithm; a round that needs more fails", above=0)
    smoothing: float = setting(1e-6, "nu, least distance that is divided by", above=0)


@dataclass(frozen=True)
class LDawaParameters(Settings):
    """L-DAWA (Rehman et al. 2023)."""

    warmup_rounds: int = setting(1, "first rounds of the stage that are plain federated averaging", at_least=0)
    normalised: bool = setting(True, "divide by the sum of the cosines; without it norms shrink, as in the paper")


@dataclass(frozen=True)
class FeduParameters(Settings):
    """FedU (Zhuang et al. 2021)."""

    threshold: float = setting(0.4, "drift of the encoder from which on a site keeps its own predictor", above=0)


@dataclass(frozen=True)
class FedemaParameters(Settings):
    """FedEMA (Zhuang, Wen, Zhang 2022)."""

    tau: float = setting(
        0.7, "share of itself a site keeps where it first drifts; later shares follow its drift", at_least=0, below=1
    )


@dataclass(frozen=True)
class DittoParameters(Settings):
    """Ditto (Li et al. 2021)."""

    pull: float = setting(
        0.1,
        "lambda; half of it times the squared distance to the global model is added to the loss of a site's own model",
        above=0,
    )


@dataclass(frozen=True)
class AggregatorEntry:
    """One line of the table."""

    module: str  # of the server's half, its full dotted name
    parameters: type[Settings] = NoParameters
    rule: str = ""  # the module of what a site does beside training and sending, its full dotted name
    plain_sgd: bool = False  # its mathematics holds for plain SGD at the sites only
    fewest_sites: Callable[[Any], int] = lambda parameters: 1  # replies without which a round cannot be aggregated
    bears_from: int = 0  # replies from which it can do without a wrong one; of fewer it is but a mean
    sends: str = ""  # prefix of what a site sends beside each floating shared tensor
    groups: tuple[str, ...] = ()  # of tensors that have to travel for it, beside the encoder
    whole: bool = False  # it needs every value of an update: not with compress 'topk'
    single: str = "each update by itself"  # what it needs of single sites; "": their mean by cases is enough
    about: str = ""  # what it does, and whose idea it is, for the documentation


_SERVER, _RULES = "prostafed.server.aggregation.", "prostafed.client.training.rules."
AGGREGATORS: dict[str, AggregatorEntry] = {
    "fedavg": AggregatorEntry(
        _SERVER + "fedavg",
        single="",
        about="mean weighted by cases, the same to the last bit whatever order replies arrive in (McMahan et al. 2017)",
    ),
    "fedprox": AggregatorEntry(
        _SERVER + "fedavg",
        ProxParameters,
        _RULES + "prox",
        single="",
        about="`fedavg`; each site is held to the global model by a term in its loss (Li et al. 2020)",
    ),
    "fedavgm": AggregatorEntry(
        _SERVER + "fedavgm",
        MomentumParameters,
        single="",
        about="`fedavg` with momentum at the server (Hsu et al. 2019)",
    ),
    "fedadagrad": AggregatorEntry(
        _SERVER + "adaptive",
        AdagradParameters,
        single="",
        about="the mean update is a gradient for Adagrad at the server (Reddi et al. 2021)",
    ),
    "fedadam": AggregatorEntry(
        _SERVER + "adaptive",
        AdamParameters,
        single="",
        about="the mean update is a gradient for Adam at the server (Reddi et al. 2021)",
    ),
    "fedyogi": AggregatorEntry(
        _SERVER + "adaptive",
        AdamParameters,
        single="",
        about="the mean update is a gradient for Yogi at the server (Reddi et al. 2021)",
    ),
    "scaffold": AggregatorEntry(
        _SERVER + "scaffold",
        ScaffoldParameters,
        _RULES + "scaffold",
        plain_sgd=True,
        sends="control.",
        whole=True,
        single="control variates beside the network",
        about="control variates correct each site's drift; plain SGD at the sites (Karimireddy et al. 2020)",
    ),
    "fednova": AggregatorEntry(
        _SERVER + "fednova",
        plain_sgd=True,
        single="each site's number of steps",
        about="a site counts by its cases, not by its steps; plain SGD at the sites (Wang et al. 2020)",
    ),
    "fedmedian": AggregatorEntry(
        _SERVER + "fedmedian", bears_from=3, about="median of each value; robust (Yin et al. 2018)"
    ),
    "trimmed_mean": AggregatorEntry(
        _SERVER + "trimmed_mean",
        TrimmedMeanParameters,
        bears_from=3,
        about="mean of each value without the least and greatest; robust (Yin et al. 2018)",
    ),
    "krum": AggregatorEntry(
        _SERVER + "krum",
        KrumParameters,
        fewest_sites=KrumParameters.fewest_sites,
        about="the update nearest to its neighbours; robust (Blanchard et al. 2017)",
    ),
    "multi_krum": AggregatorEntry(
        _SERVER + "krum",
        MultiKrumParameters,
        fewest_sites=KrumParameters.fewest_sites,
        about="mean of several updates near to their neighbours; robust (Blanchard et al. 2017)",
    ),
    "geometric_median": AggregatorEntry(
        _SERVER + "geometric_median",
        GeometricMedianParameters,
        bears_from=3,
        about="the model with the least sum of distances to the sites'; robust (Pillutla et al. 2022)",
    ),
    "l_dawa": AggregatorEntry(
        _SERVER + "l_dawa",
        LDawaParameters,
        single="the direction of each site's layers",
        about="each layer weighted by its cosine with the global one (Rehman et al. 2023)",
    ),
    "fedu": AggregatorEntry(
        _SERVER + "fedavg",
        FeduParameters,
        _RULES + "fedu",
        groups=("predictor",),
        single="",
        about="`fedavg` for byol; a site that drifted keeps its predictor (Zhuang et al. 2021)",
    ),
    "fedema": AggregatorEntry(
        _SERVER + "fedavg",
        FedemaParameters,
        _RULES + "fedema",
        groups=("predictor",),
        single="",
        about="`fedavg` for byol; a site starts from a mixture of its own and the global model (Zhuang et al. 2022)",
    ),
    "ditto": AggregatorEntry(
        _SERVER + "fedavg",
        DittoParameters,
        _RULES + "ditto",
        single="",
        about="`fedavg`, and beside it a model of each site's own, pulled to the global one (Li et al. 2021)",
    ),
}
