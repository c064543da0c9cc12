"""SCAFFOLD's server half: by hand, partial participation, replies without control variates."""

import numpy as np
import pytest

from prostafed.server.aggregation import Update
from prostafed.server.exchange.admission import RejectedError
from tests.server.aggregation.one_round import build, run_round, sent


def reply(values: list[float], change: list[float], cases: int = 1, site: str = "a") -> Update:
    return Update(site, cases, 5, {"w": np.float32(values), "control.w": np.float32(change)})


def test_two_rounds_by_hand_two_sites_of_four() -> None:
    aggregator, start = build("scaffold", server_learning_rate=0.5), sent([1.0, 0.0, 0.0])
    assert aggregator.send(start, {})["control.w"].tolist() == [0.0, 0.0, 0.0]
    # cases do not count: W + 1/2 mean of (2, 4, 0) and (0, 0, 2); c + (sum of changes) / 4
    replies = [reply([3.0, 4.0, 0.0], [4.0, 0.0, 0.0], cases=9), reply([1.0, 0.0, 2.0], [0.0, 8.0, 0.0], site="b")]
    first = run_round(aggregator, start, replies, sites=4)
    assert first.tensors["w"].tolist() == [1.5, 1.0, 0.5]
    assert first.memory["control.w"].tolist() == [1.0, 2.0, 0.0]
    assert aggregator.send(first.tensors, first.memory)["control.w"].tolist() == [1.0, 2.0, 0.0]
    second = run_round(aggregator, first.tensors, [reply([1.5, 1.0, 0.5], [-4.0, 0.0, 4.0])], first.memory, sites=4)
    assert second.tensors["w"].tolist() == [1.5, 1.0, 0.5]
    assert second.memory["control.w"].tolist() == [0.0, 2.0, 1.0]


def test_with_all_sites_control_variates_keep_their_mean() -> None:
    rng = np.random.default_rng(0)
    changes = rng.normal(size=(3, 3))
    replies = [reply([0.0] * 3, list(change), site=str(row)) for row, change in enumerate(changes)]
    for sites in (0, 3):
        memory = run_round(build("scaffold"), sent([0.0] * 3), replies, sites=sites).memory
        np.testing.assert_allclose(memory["control.w"], changes.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({"w": np.zeros(3, np.float32)}, "expected control.w like w, found nothing"),
        ({"w": np.zeros(3, np.float32), "control.w": np.zeros(2, np.float32)}, r"found shape \[2\]"),
        ({"control.w": np.zeros(3, np.float32)}, "control.w came without w"),
    ],
)
def test_control_variates_come_with_their_tensors(tensors: dict[str, np.ndarray], match: str) -> None:
    aggregator = build("scaffold")
    with pytest.raises(RejectedError, match=match) as caught:
        aggregator.add(aggregator.init(sent([0.0] * 3), {}), Update("a", 1, 1, tensors))
    assert caught.value.code == "WRONG_TENSORS"
