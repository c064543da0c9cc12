"""Noise on a site's update."""

import math

import numpy as np
import pytest
from scipy import stats

from prostafed.client.gate.noise import add_noise
from prostafed.common.privacy.noise import open_sources
from prostafed.common.privacy.plan import plan_site
from prostafed.common.tensors import Tensors

SENT: Tensors = {"a": np.ones((2,), np.float32), "b": np.zeros((1, 1), np.float32), "count": np.array([3])}
SILENT = plan_site((0.0, 1.0, 1e-5))


def change(*values: float) -> Tensors:
    moved = np.array(values, np.float32)
    return {"a": SENT["a"] + moved[:2], "b": SENT["b"] + moved[2], "count": np.array([99])}


def test_the_change_is_clipped_over_all_tensors_together() -> None:
    """(2, 0, 0) and (0, 3, 4) have norm 2 and 5: at C = 1 they become (1, 0, 0) and (0, .6, .8)."""
    source = open_sources(0)(0)
    left = add_noise(change(2, 0, 0), SENT, SILENT, source)
    assert (left["a"].tolist(), left["b"].tolist()) == ([2.0, 1.0], [[0.0]])
    left = add_noise(change(0, 3, 4), SENT, SILENT, source)
    assert np.allclose([*left["a"], left["b"][0, 0]], [1.0, 1.6, 0.8])
    left = add_noise(change(0.25, 0, 0), SENT, SILENT, source)
    assert left["a"].tolist() == [1.25, 1.0]
    assert left["count"].tolist() == [3], "what has no noise leaves as it came"
    assert {name: array.dtype for name, array in left.items()} == {name: array.dtype for name, array in SENT.items()}


@pytest.mark.parametrize("wild", [math.inf, math.nan, 1e30])
def test_one_wild_value_changes_nothing_or_is_clipped(wild: float) -> None:
    left = add_noise(change(wild, 0, 0), SENT, SILENT, open_sources(0)(0))
    assert left["a"].tolist() == ([2.0, 1.0] if wild == 1e30 else [1.0, 1.0])


def test_noise_has_the_deviation_of_the_plan() -> None:
    sent: Tensors = {"a": np.zeros(20_000, np.float32)}
    noise = add_noise(sent, sent, plan_site((2.0, 3.0, 1e-5)), open_sources(0)(0))["a"]
    assert stats.kstest(noise, "norm", args=(0, 6.0)).pvalue > 0.001
    other = add_noise(sent, sent, plan_site((2.0, 3.0, 1e-5)), open_sources(None)(0))["a"]
    assert stats.kstest(other, "norm", args=(0, 6.0)).pvalue > 1e-6
    assert not np.array_equal(noise, other)
