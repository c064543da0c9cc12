"""The adaptive server optimisers: one round by hand, several against Flower's, begun from the paper's v."""

from collections.abc import Iterator

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedYogi
from flwr.supercore.task_identity import TaskIdentity

from prostafed.server.aggregation import Update
from prostafed.server.aggregation.adaptive import yogi
from tests.server.aggregation.one_round import build, run_round, sent, update

FLOWER = {"fedadagrad": FedAdagrad, "fedadam": FedAdam, "fedyogi": FedYogi}


@pytest.fixture
def _flower_task(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("_task_id", "_run_id", "_node_id"):  # messages carry their sender
        monkeypatch.setattr(TaskIdentity, name, 1)
    return


def test_adagrad_by_hand() -> None:
    aggregator = build("fedadagrad", server_learning_rate=0.5, tau=1.0)
    outcome = run_round(aggregator, sent([0.0, 1.0, 2.0]), [update([0.0, 1.0 + 3**0.5, 2.0 - 8**0.5])])
    # v = tau^2 + Delta^2 = 1, 4, 9; W + eta Delta / (sqrt(v) + tau)
    np.testing.assert_allclose(outcome.tensors["w"], [0.0, 1 + 0.5 * 3**0.5 / 3, 2 - 0.5 * 8**0.5 / 4], rtol=1e-6)
    np.testing.assert_allclose(outcome.memory["v.w"], [1.0, 4.0, 9.0], rtol=1e-6)
    np.testing.assert_allclose(outcome.memory["m.w"], [0.0, 3**0.5, -(8**0.5)], rtol=1e-6)


def test_adam_by_hand() -> None:
    aggregator = build("fedadam", server_learning_rate=1.0, beta_1=0.5, beta_2=0.5, tau=1.0)
    outcome = run_round(aggregator, sent([0.0, 0.0, 0.0]), [update([0.0, 1.0, 17**0.5])])
    # m = Delta/2; v = 1/2 + Delta^2/2 = 1/2, 1, 9
    np.testing.assert_allclose(outcome.tensors["w"], [0.0, 0.5 / 2, 17**0.5 / 2 / 4], rtol=1e-6)


def test_yogi_moves_v_towards_the_square_from_either_side() -> None:
    assert yogi(np.array([4.0, 1.0, 2.0]), np.array([1.0, 4.0, 2.0]), 0.5).tolist() == [3.5, 3.0, 2.0]


@pytest.mark.parametrize("name", FLOWER)
@pytest.mark.usefixtures("_flower_task")
def test_three_rounds_as_flower_goes_from_the_same_v(name: str) -> None:
    rng = np.random.default_rng(2)
    tau, current, memory = 0.01, sent(list(rng.normal(size=3))), {}
    strategy = FLOWER[name](eta=0.1, tau=tau)
    strategy.v_t = {"w": np.full(3, tau**2)}
    betas = {} if name == "fedadagrad" else {"beta_1": strategy.beta_1, "beta_2": strategy.beta_2}
    for _ in range(3):
        updates = [update(list(rng.normal(size=3)), cases=int(rng.integers(1, 9))) for _ in range(4)]
        strategy.current_arrays = {"w": current["w"].astype(np.float64)}
        late = 100_000  # FedAdam's correction for bias, which the paper leaves out, is 1 by then
        arrays, _ = strategy.aggregate_train(late, [as_message(each) for each in updates])
        assert arrays is not None
        outcome = run_round(build(name, server_learning_rate=0.1, tau=tau, **betas), current, updates, memory)
        np.testing.assert_allclose(outcome.tensors["w"], arrays["w"].numpy(), rtol=1e-5)
        current, memory = outcome.tensors, outcome.memory


def as_message(each: Update) -> Message:
    arrays = ArrayRecord({"w": Array(each.tensors["w"].astype(np.float64))})
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": each.cases})})
    return Message(content, dst_node_id=1, message_type="train")


@pytest.mark.parametrize("name", FLOWER)
def test_a_first_round_without_change_moves_nothing(name: str) -> None:
    start = sent([1.0, -2.0, 3.0])
    np.testing.assert_array_equal(run_round(build(name), start, [update([1.0, -2.0, 3.0])]).tensors["w"], start["w"])


def test_a_tensor_nobody_sent_keeps_its_moments() -> None:
    aggregator, start = build("fedadam"), {"w": np.ones(1, np.float32), "x": np.ones(1, np.float32)}
    both = Update("a", 1, 1, {"w": np.float32([2.0]), "x": np.float32([2.0])})
    first = run_round(aggregator, start, [both])
    second = run_round(aggregator, first.tensors, [Update("a", 1, 1, {"w": np.float32([2.0])})], first.memory)
    for moment in ("m.x", "v.x"):
        assert second.memory[moment] == first.memory[moment]
    assert second.memory["m.w"] != first.memory["m.w"]
    assert second.tensors["x"] == first.tensors["x"] != 1.0
