"""The coordinate-wise trimmed mean (Yin et al. 2018): of K values the floor(fraction K) least and as many greatest are
left out and the others averaged.

Where we differ: of three values or more at least one is left out at each end. A fraction that rounds to nobody, 0.2 of
4, would be the plain mean under another name. A fraction of 0 asks for that.
"""

from functools import partial

from prostafed.common.aggregation import TrimmedMeanParameters
from prostafed.common.settings import Settings
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation.aggregator import Aggregator, Float64
from prostafed.server.aggregation.robust import Spooled, combine_columns, spool_replies


def build(name: str, parameters: Settings) -> Aggregator:
    """Return the trimmed mean; `parameters` are TrimmedMeanParameters."""
    assert isinstance(parameters, TrimmedMeanParameters)
    return spool_replies(partial(_combine, parameters.trimmed_fraction), name)


def trim_mean(fraction: float, ordered: Float64) -> Float64:
    """Return the trimmed mean of each sorted column, (sites, values) -> (values)."""
    out = count_trimmed(fraction, len(ordered))
    kept = ordered[out : len(ordered) - out]
    mean: Float64 = kept.sum(axis=0) / len(kept)
    return mean


def count_trimmed(fraction: float, sites: int) -> int:
    """Return how many of `sites` values are left out at each end."""
    out = int(fraction * sites + 1e-9)  # 0.29 of 100 is 29, not the 28 that 28.999999999999996 would give
    return max(out, 1) if fraction and sites > 2 else out


def _combine(fraction: float, state: Spooled) -> tuple[Tensors, dict[str, float]]:
    trimmed = count_trimmed(fraction, len(state.spool.sites))
    return combine_columns(state, partial(trim_mean, fraction)), {"trimmed_at_each_end": float(trimmed)}
