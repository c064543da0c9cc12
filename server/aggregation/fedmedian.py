"""The coordinate-wise median of the sites (Yin et al. 2018); of an even number, the mean of the two in the middle."""

from prostafed.common.settings import Settings
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation.aggregator import Aggregator, Float64
from prostafed.server.aggregation.robust import Spooled, combine_columns, spool_replies


def build(name: str, parameters: Settings) -> Aggregator:
    """Return the coordinate-wise median."""
    return spool_replies(_combine, name)


def take_median(ordered: Float64) -> Float64:
    """Return the median of each sorted column, (sites, values) -> (values)."""
    count = len(ordered)
    median: Float64 = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return median


def _combine(state: Spooled) -> tuple[Tensors, dict[str, float]]:
    return combine_columns(state, take_median), {}
