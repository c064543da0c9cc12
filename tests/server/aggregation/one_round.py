"""A round of an aggregator, written out: shared by the tests of all of them."""

from collections.abc import Iterable

import numpy as np

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.settings import Settings
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation import Aggregator, Outcome, Update, build_aggregator


def build(name: str, **parameters: object) -> Aggregator:
    return build_aggregator(name, AGGREGATORS[name].parameters(**parameters))


def default_parameters(name: str) -> Settings:
    return AGGREGATORS[name].parameters()


def run_round(
    aggregator: Aggregator, sent: Tensors, updates: Iterable[Update], memory: Tensors | None = None, sites: int = 0
) -> Outcome:
    state = aggregator.init(sent, memory or {}, sites)
    for update in updates:
        state = aggregator.add(state, update)
    return aggregator.finish(state)


def update(values: list[float], cases: int = 1, steps: int = 1, site: str = "a", dtype: type = np.float32) -> Update:
    return Update(site, cases, steps, {"w": np.array(values, dtype)})


def sent(values: list[float]) -> Tensors:
    return {"w": np.array(values, np.float32)}
