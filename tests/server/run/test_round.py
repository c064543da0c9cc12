"""When a training loss counts as diverged."""

import math

import pytest

from prostafed.server.records.lines import RoundLine
from prostafed.server.run.round import find_diverged, has_diverged


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([], False),
        ([math.nan], True),
        ([0.7], False),
        ([0.7, math.inf], True),
        ([0.7, 10.6], False),
        ([0.7, 10.8], True),
        ([11.1, 40.0], False),
        ([11.1, 53.5], True),
        ([40.0, 159.0], False),
        ([40.0, 161.0], True),
        ([-3.0, -9.0], False),
        ([-3.0, 6.0], False),
        ([-3.0, 8.0], True),
        ([0.7, 1e12, 0.6], False),  # it came back
        ([1e12, 0.6], False),
    ],
)
def test_it_is_far_above_where_it_began(losses: list[float], expected: bool) -> None:
    assert has_diverged(losses) == expected


def test_each_site_is_held_against_its_own_first_round_of_the_stage() -> None:
    def told(stage: int, **losses: float) -> RoundLine:
        return RoundLine(stage=stage, round=1, metrics={site: {"loss": loss} for site, loss in losses.items()})

    rounds = [told(1, north=100.0), told(2, north=0.5, south=0.5), told(2, north=0.5), told(2, north=90.0, south=0.4)]
    assert find_diverged(rounds, 2) == ["north"]
    assert find_diverged(rounds, 1) == []
    assert find_diverged(rounds, 3) == []


def test_a_site_that_no_longer_tells_its_loss_is_not_looked_up() -> None:
    told = [{"loss": 0.5}, {"loss": 100.0}, {"steps": 4.0}]
    rounds = [RoundLine(stage=1, round=1, metrics={"north": metrics}) for metrics in told]
    assert find_diverged(rounds[:2], 1) == ["north"]
    assert find_diverged(rounds, 1) == []
