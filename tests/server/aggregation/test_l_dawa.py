"""L-DAWA: cosines and weights by hand, with and without normalisation, warm-up."""

import numpy as np
import pytest

from prostafed.common.tensors import Tensors
from prostafed.server.aggregation import Update
from prostafed.server.aggregation.l_dawa import cosine
from tests.server.aggregation.one_round import build, run_round, sent, update

WARM: Tensors = {"rounds_done": np.array([1], np.int64)}
ALONG, ACROSS, AGAINST = [2.0, 0.0, 0.0], [3.0, 4.0, 0.0], [-1.0, 0.0, 0.0]  # cosines with x: 1, 3/5, -1


def test_cosines_by_hand() -> None:
    x = np.float32([1.0, 0.0, 0.0])
    assert [cosine(np.float32(each), x) for each in (ALONG, ACROSS, AGAINST)] == [1.0, pytest.approx(0.6), -1.0]
    assert cosine(np.zeros(3, np.float32), x) == cosine(x, np.zeros(3, np.float32)) == 1.0
    long = np.random.default_rng(0).normal(size=(2, 100_000))
    expected = long[0] @ long[1] / np.linalg.norm(long[0]) / np.linalg.norm(long[1])
    assert cosine(long[0], long[1]) == pytest.approx(expected)


def test_normalised_by_hand() -> None:
    updates = [update(ALONG, cases=50, site="a"), update(ACROSS, site="b")]
    tensors = run_round(build("l_dawa"), sent([1.0, 0.0, 0.0]), updates, WARM).tensors
    np.testing.assert_allclose(tensors["w"], [(2 + 0.6 * 3) / 1.6, 0.6 * 4 / 1.6, 0.0], rtol=1e-6)


def test_as_in_the_paper_by_hand() -> None:
    updates = [update(ALONG, cases=50, site="a"), update(ACROSS, site="b"), update(AGAINST, site="c")]
    tensors = run_round(build("l_dawa", normalised=False), sent([1.0, 0.0, 0.0]), updates, WARM).tensors
    np.testing.assert_allclose(tensors["w"], [(2 + 1.8 + 1) / 3, 2.4 / 3, 0.0], rtol=1e-6)


def test_normalised_a_site_that_points_the_other_way_has_no_weight() -> None:
    start = sent([1.0, 0.0, 0.0])
    updates = [update(ALONG, site="a"), update(AGAINST, site="b")]
    assert run_round(build("l_dawa"), start, updates, WARM).tensors["w"].tolist() == ALONG
    assert run_round(build("l_dawa"), start, updates[1:], WARM).tensors["w"].tolist() == start["w"].tolist()


def test_warm_up_rounds_are_federated_averaging_and_counted() -> None:
    aggregator, start, memory = build("l_dawa", warmup_rounds=2), sent([1.0, 0.0, 0.0]), {}
    updates = [update(ALONG, cases=3, site="a"), update(ACROSS, site="b")]
    means = []
    for _ in range(3):
        outcome = run_round(aggregator, start, updates, memory)
        means.append(outcome.tensors["w"].tolist())
        memory = outcome.memory
    assert means[0] == means[1] == [2.25, 1.0, 0.0] != means[2]
    assert memory["rounds_done"].tolist() == [3]


def test_each_tensor_has_its_own_weights() -> None:
    start = {"a": np.float32([1.0, 0.0]), "b": np.float32([0.0, 1.0])}
    updates = [Update(str(k), 1, 1, {"a": np.float32(a), "b": np.float32(b)}) for k, a, b in (
        (0, [1.0, 0.0], [1.0, 0.0]), (1, [0.0, 1.0], [0.0, 1.0])
    )]  # fmt: skip
    tensors = run_round(build("l_dawa"), start, updates, WARM).tensors
    assert (tensors["a"].tolist(), tensors["b"].tolist()) == ([1.0, 0.0], [0.0, 1.0])
