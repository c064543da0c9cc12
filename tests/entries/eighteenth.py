"""Averaging by cases to a power: with 1 federated averaging (McMahan et al. 2017), with 0 every site counts alike."""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

from prostafed.common.aggregation import AggregatorEntry
from prostafed.common.settings import Settings, setting
from prostafed.server.aggregation import Aggregator, Outcome, Update
from prostafed.server.aggregation.aggregator import measure_step
from prostafed.server.aggregation.exact import add_weighted
from prostafed.server.aggregation.fedavg import Averaging, start_averaging, take_means


@dataclass(frozen=True)
class TemperedParameters(Settings):
    """Tempered averaging."""

    power: float = setting(0.5, "of a site's cases in its weight, from 0 to 1")


def build(name: str, parameters: Settings) -> Aggregator:
    """Return tempered averaging; `parameters` are TemperedParameters."""
    assert isinstance(parameters, TemperedParameters)
    return Aggregator(init=start_averaging, add=partial(_add, parameters.power), finish=_finish)


def _add(power: float, state: Averaging, update: Update) -> Averaging:
    weights = dict.fromkeys(update.tensors, Fraction(update.cases**power))
    return replace(state, total=add_weighted(state.total, update.tensors, weights))


def _finish(state: Averaging) -> Outcome:
    tensors = take_means(state)
    return Outcome(tensors, {}, measure_step(state.sent, tensors))


ENTRY = AggregatorEntry("tests.entries.eighteenth", TemperedParameters, about="averaging by cases to a power")
