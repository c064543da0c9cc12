"""The geometric median of the sites by the smoothed Weiszfeld algorithm (Pillutla, Kakade, Harchaoui 2022, RFA):

    v <- sum_k b_k W_k / sum_k b_k,    b_k = 1 / max(nu, |v - W_k|)

from the mean on. v is always a mixture of the W_k, so its distances follow from those between the sites,
|v - W_j|^2 = sum_k l_k D_jk - 1/2 sum_kl l_k l_l D_kl for weights l that sum to 1: the replies are read twice, not once
an iteration. Where the paper weights sites by cases, each counts once here; see robust.py.
"""

from functools import partial

import numpy as np

from prostafed.common.aggregation import GeometricMedianParameters
from prostafed.common.errors import RoundError
from prostafed.common.settings import Settings
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation.aggregator import Aggregator, Float64
from prostafed.server.aggregation.robust import Spooled, average_sites, measure_distances, spool_replies

SETTLED = 1e-5  # length of the mean of the unit vectors from the median to the sites, 0 at the minimum


def build(name: str, parameters: Settings) -> Aggregator:
    """Return the geometric median; `parameters` are GeometricMedianParameters."""
    assert isinstance(parameters, GeometricMedianParameters)
    return spool_replies(partial(_combine, parameters), name)


def weigh(distances: Float64, most: int, smoothing: float) -> tuple[Float64, int]:
    """Return the weights of the sites in the geometric median, from their squared distances, and the iterations
    taken.

    It has converged where the gradient of the mean distance, which has no unit and lies in [0, 1], is at most SETTLED.
    Raises RoundError where it has not after `most` iterations.
    """
    weights = np.full(len(distances), 1 / len(distances))
    for taken in range(1, most + 1):
        pulled = distances @ weights
        inverse = 1 / np.maximum(smoothing, np.sqrt(np.maximum(pulled - weights @ pulled / 2, 0.0)))
        found = inverse / inverse.sum()
        moved = found - weights
        gradient = inverse.mean() * np.sqrt(max(0.0, -float(moved @ distances @ moved) / 2))
        weights = found
        if gradient <= SETTLED:
            return weights, taken
    raise RoundError(
        f"The geometric median of {len(distances)} replies had not settled after {most} iterations. Raise iterations "
        "in the stage's aggregate_parameters, or choose another aggregator."
    )


def _combine(parameters: GeometricMedianParameters, state: Spooled) -> tuple[Tensors, dict[str, float]]:
    weights, taken = weigh(measure_distances(state), parameters.iterations, parameters.smoothing)
    by_site = dict(zip(state.spool.sites, weights.tolist(), strict=True))
    diagnostics = {f"weight.{site}": weight for site, weight in by_site.items()}
    return average_sites(state, by_site), {**diagnostics, "iterations": float(taken)}
