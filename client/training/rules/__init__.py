"""What a site does beside training and sending, where the study's aggregator asks for it."""

from importlib import import_module
from typing import cast

from prostafed.client.training.rules.rule import Rule
from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.errors import ConfigurationError
from prostafed.common.settings import Settings


def build_rule(aggregator: str, parameters: Settings) -> Rule:
    """Return the rule that goes with an aggregator, with `parameters` of the class AGGREGATORS names for it; raises
    ConfigurationError where the table names no module that builds one.
    """
    path = AGGREGATORS[aggregator].rule
    if not path:
        return Rule()
    try:
        return cast("Rule", import_module(path).build(parameters))
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"The aggregator '{aggregator}' needs build(parameters) in the module {path}, its rule at the sites, "
            f"found: {error}. Mend its line in AGGREGATORS, or the module."
        ) from error
