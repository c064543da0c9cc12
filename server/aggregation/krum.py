"""Krum and Multi-Krum (Blanchard et al. 2017), for n replies of which f may be anything.

A reply's score is the sum of its squared distances to the n - f - 2 replies closest to it. Krum takes the reply of the
least score, Multi-Krum the mean of several; of equal scores the site first by name. Distances are taken over the
tensors that every site sent; a tensor that no chosen site sent stays as it was.
"""

from functools import partial

import numpy as np

from prostafed.common.aggregation import KrumParameters, MultiKrumParameters
from prostafed.common.errors import RoundError
from prostafed.common.settings import Settings
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation.aggregator import Aggregator, Float64
from prostafed.server.aggregation.robust import Spooled, average_sites, measure_distances, spool_replies


def build(name: str, parameters: Settings) -> Aggregator:
    """Return Krum, or Multi-Krum where `parameters` are MultiKrumParameters."""
    assert isinstance(parameters, KrumParameters)
    return spool_replies(partial(_combine, name, parameters), name)


def score(distances: Float64, byzantine: int) -> Float64:
    """Return each reply's score from the squared distances (n, n)."""
    closest = len(distances) - byzantine - 2
    others = np.sort(np.where(np.eye(len(distances), dtype=bool), np.inf, distances), axis=1)
    scores: Float64 = others[:, :closest].sum(axis=1)
    return scores


def _combine(name: str, parameters: KrumParameters, state: Spooled) -> tuple[Tensors, dict[str, float]]:
    sites, byzantine, fewest = state.spool.sites, parameters.byzantine, parameters.fewest_sites()
    if len(sites) < fewest:
        raise RoundError(
            f"{name} with byzantine = {byzantine} needs {fewest} replies (2 x byzantine + 3), found "
            f"{len(sites)}. Set the round's quorum to that, lower byzantine, or choose another aggregator."
        )
    scores = score(measure_distances(state), byzantine)
    most = len(sites) - byzantine
    kept = min(parameters.kept or most, most) if isinstance(parameters, MultiKrumParameters) else 1
    chosen = {sites[row] for row in np.argsort(scores, kind="stable")[:kept]}
    weights = {site: float(site in chosen) for site in sites}
    return average_sites(state, weights), {f"weight.{site}": weights[site] / kept for site in sites}
