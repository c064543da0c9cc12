"""The AGGREGATORS table: how the server combines the sites."""

from collections.abc import Callable

from prostafed.common.errors import ConfigurationError, nearest
from prostafed.common.study import Study
from prostafed.server.aggregation import fedavg
from prostafed.server.aggregation.aggregator import Aggregator

AGGREGATORS: dict[str, Callable[[], Aggregator]] = {"fedavg": fedavg.build}


def check_aggregators(study: Study) -> None:
    """Raise ConfigurationError where a stage names an aggregator the table does not hold."""
    for number, stage in enumerate(study.stage, start=1):
        if stage.aggregate not in AGGREGATORS:
            hint = nearest(stage.aggregate, AGGREGATORS)
            raise ConfigurationError(f"study: stage.{number}.aggregate: unknown aggregator '{stage.aggregate}'{hint}")
