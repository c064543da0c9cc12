"""The server's half of the AGGREGATORS table: how sites are combined. What there is stands in common/aggregation.py."""

from importlib import import_module

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.errors import ConfigurationError
from prostafed.common.settings import Settings
from prostafed.server.aggregation.aggregator import Aggregator, Outcome, Update

__all__ = ["Aggregator", "Outcome", "Update", "build_aggregator"]


def build_aggregator(name: str, parameters: Settings) -> Aggregator:
    """Return the aggregator that AGGREGATORS lists under `name`, with `parameters` of the class the table names; raises
    ConfigurationError where the table names no module that builds one.
    """
    path = AGGREGATORS[name].module
    try:
        found = import_module(path).build(name, parameters)
        if not isinstance(found, Aggregator):
            raise TypeError(f"a {type(found).__name__}")
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"The aggregator '{name}' needs build(name, parameters) in the module {path}, found: {error}. Mend its "
            "line in AGGREGATORS, or the module."
        ) from error
    return found
