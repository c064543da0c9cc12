"""The server's half of the AGGREGATORS table: how sites are combined. What there is stands in common/aggregation.py."""

import sys
from importlib import import_module
from typing import cast

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.settings import Settings
from prostafed.server.aggregation.aggregator import Aggregator, Outcome, Update

__all__ = ["Aggregator", "Outcome", "Update", "build_aggregator"]


def build_aggregator(name: str, parameters: Settings) -> Aggregator:
    """Return the aggregator that AGGREGATORS lists under `name`, with `parameters` of the class the table names."""
    place = AGGREGATORS[name].module
    module = import_module(place if place in sys.modules else f"prostafed.server.aggregation.{place}")
    return cast(Aggregator, module.build(name, parameters))
