"""The server's half of the AGGREGATORS table: how sites are combined. What there is stands in common/aggregation.py."""

from importlib import import_module
from typing import cast

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.settings import Settings
from prostafed.server.aggregation.aggregator import Aggregator, Outcome, Update

__all__ = ["Aggregator", "Outcome", "Update", "build_aggregator"]


def build_aggregator(name: str, parameters: Settings) -> Aggregator:
    """Return the aggregator that AGGREGATORS lists under `name`, with `parameters` of the class the table names."""
    module = import_module(f"prostafed.server.aggregation.{AGGREGATORS[name].module}")
    return cast(Aggregator, module.build(name, parameters))
