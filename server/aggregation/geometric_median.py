"""The geometric median of the sites by the smoothed Weiszfeld algorithm (Pillutla, Kakade, Harchaoui 2022, RFA):

    v <- sum_k b_k W_k / sum_k b_k,    b_k = 1 / max(nu, |v - W_k|)

from the mean on. v is always a mixture of the W_k, so its distances follow from those between the sites,
|v - W_j|^2 = sum_k l_k D_jk - 1/2 sum_kl l_k l_l D_kl for weights l that sum to 1: the replies are read twice, not once
an iteration. Where the paper weights sites by cases, each counts once here; see robust.py.
"""

from functools import partial

import numpy as np

from prostafed.common.aggregation import GeometricMedianParameters
from prostafed.common.settings import Settings
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation.aggregator import Aggregator, Float64
from prostafed.server.aggregation.robust import Spooled, average_sites, measure_distances, spool_replies

SETTLED = 1e-9  # change of every weight below which the iteration ends


def build(name: str, parameters: Settings) -> Aggregator:
    """Return the geometric median; `parameters` are GeometricMedianParameters."""
    assert isinstance(parameters, GeometricMedianParameters)
    return spool_replies(partial(_combine, parameters))


def weigh(distances: Float64, iterations: int, smoothing: float) -> tuple[Float64, int]:
    """Return the weights of the sites in the geometric median, from their squared distances, and the iterations
    taken.
    """
    weights, taken, settled = np.full(len(distances), 1 / len(distances)), 0, False
    while taken < iterations and not settled:
        pulled = distances @ weights
        from_median = np.sqrt(np.maximum(pulled - weights @ pulled / 2, 0.0))
        found = 1 / np.maximum(smoothing, from_median)
        found /= found.sum()
        settled = bool(np.abs(found - weights).max() < SETTLED)
        weights, taken = found, taken + 1
    return weights, taken


def _combine(parameters: GeometricMedianParameters, state: Spooled) -> tuple[Tensors, dict[str, float]]:
    weights, taken = weigh(measure_distances(state), parameters.iterations, parameters.smoothing)
    by_site = dict(zip(state.spool.sites, weights.tolist(), strict=True))
    diagnostics = {f"weight.{site}": weight for site, weight in by_site.items()}
    return average_sites(state, by_site), {**diagnostics, "iterations": float(taken)}
