"""One step of a batch, whole or in parts."""

import copy
import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor, nn

from prostafed.client.training import step as stepping
from prostafed.client.training.loop import PLAIN, Continuation, State, TrainingRecord
from prostafed.client.training.machine import Machine, say_once
from prostafed.client.training.optimisers import Optimisation
from prostafed.client.training.step import PartLoss, Stepper, split_evenly
from prostafed.common.errors import DataError
from tests.client.training.learn import learn


@given(start=st.integers(0, 5), count=st.integers(0, 40), parts=st.integers(1, 9))
def test_parts_are_those_of_tensor_split(start: int, count: int, parts: int) -> None:
    found = [list(range(part.start, part.stop)) for part in split_evenly(start, start + count, parts)]
    assert found == [part.tolist() for part in torch.tensor_split(torch.arange(start, start + count), parts)]


def make_gradients(micro_batch: int, divisible: bool, sizes: list[int]) -> tuple[Tensor, float]:
    torch.manual_seed(0)
    network, data = nn.Linear(3, 1), torch.randn(7, 3)
    stepper = Stepper(network, torch.optim.SGD(network.parameters()), Machine(micro_batch=micro_batch), divisible, None)

    def draw() -> PartLoss:
        seen = data + torch.randn(7, 3, generator=Generator().manual_seed(3))

        def part_loss(part: slice) -> Tensor:
            sizes.append(part.stop - part.start)
            return (network(seen[part]) ** 2).mean()

        return part_loss

    loss = stepper.backward(7, draw)
    assert network.weight.grad is not None
    return network.weight.grad, loss


@pytest.mark.parametrize(("micro_batch", "expected"), [(1, [1] * 7), (2, [2, 2, 2, 1]), (3, [3, 2, 2]), (50, [7])])
def test_micro_batches_add_up_to_the_gradients_of_the_whole_batch(micro_batch: int, expected: list[int]) -> None:
    sizes: list[int] = []
    whole, loss = make_gradients(0, True, [])
    parts, total = make_gradients(micro_batch, True, sizes)
    assert sizes == expected
    assert torch.allclose(parts, whole, rtol=1e-5)
    assert total == pytest.approx(loss, rel=1e-6)


def test_a_loss_that_compares_cases_is_never_divided_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    say_once.cache_clear()
    sizes: list[int] = []
    make_gradients(2, False, sizes)
    make_gradients(2, False, sizes)
    assert sizes == [7, 7]
    assert caplog.text.count("micro_batch is not used") == 1


def test_what_a_rule_adds_is_clipped_too() -> None:
    network = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(network.weight)

    def adjust(network: nn.Module, by: float) -> None:
        for parameter in network.parameters():
            assert parameter.grad is not None
            parameter.grad += by

    optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
    stepper = Stepper(network, optimiser, Machine(), True, partial(adjust, by=30.0))
    stepper.backward(1, lambda: lambda part: 10 * network.weight.sum())
    stepper.update()
    assert torch.allclose(network.weight.norm(), torch.tensor(5.0), rtol=1e-5)


@pytest.fixture
def in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let float16 with its loss scale run on a CPU."""
    monkeypatch.setattr(stepping, "choose_dtype", lambda precision, device: torch.float16)


class Overflow(torch.autograd.Function):
    """What comes back is infinite above a limit, as it is in float16 above 65,504."""

    @staticmethod
    def forward(context: Any, values: Tensor, limit: float) -> Tensor:
        context.limit = limit
        return values.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].where(gradients[0].abs() <= context.limit, torch.inf), None


def train_steeply(limit: float, continuation: Continuation = PLAIN) -> tuple[Tensor, TrainingRecord, list[float]]:
    """Three steps whose gradients overflow at a loss scale above `limit`; also what was drawn, pass after pass."""
    torch.manual_seed(0)
    network, drawn = nn.Linear(3, 1), []

    def batch_loss(batch: list[int], generator: Generator) -> PartLoss:
        seen = torch.rand(2, 3, generator=generator)
        drawn.append(float(seen.sum()))
        return lambda part: Overflow.apply((seen[part] @ network.weight.T).mean(), limit)  # type: ignore[no-untyped-call, no-any-return]

    settings = Optimisation(3, 2, 1e-2, 0.0, 1, "sgd")
    record = learn(network, batch_loss, 2, settings, divisible=True, continuation=continuation)
    return network.weight.detach(), record, drawn


def test_gradients_that_overflow_float16_take_the_step_again_and_the_next_round_knows_the_scale(
    request: pytest.FixtureRequest,
) -> None:
    plain = train_steeply(math.inf)
    assert plain[1].scaler == {}
    request.getfixturevalue("in_float16")
    weight, record, drawn = train_steeply(3000.0)
    assert drawn == [plain[2][0]] * 5 + plain[2], "65,536 is halved five times, for the same batch"
    assert record.steps == plain[1].steps == 3
    assert torch.allclose(weight, plain[0], atol=1e-4), "every step that is counted was taken"
    assert record.scaler["scale"] == 2048
    assert record.scaler["_growth_tracker"] == 3
    _, later, drawn = train_steeply(3000.0, Continuation(scaler=record.scaler))
    assert drawn == plain[2]
    assert later.scaler["_growth_tracker"] == 6


@pytest.mark.usefixtures("in_float16")
def test_a_round_that_is_taken_up_again_knows_the_scale() -> None:
    states: list[State] = []
    train_steeply(3000.0, Continuation(on_state=lambda state: states.append(copy.deepcopy(state)), every_s=0.0))
    _, record, drawn = train_steeply(3000.0, Continuation(start=states[0]))
    assert len(drawn) == 2, "no step is taken again"
    assert record.scaler["_growth_tracker"] == 3


@pytest.mark.usefixtures("in_float16")
def test_gradients_that_overflow_at_every_scale_are_said() -> None:
    with pytest.raises(DataError, match='precision = "float32"'):
        train_steeply(0.0)


@pytest.mark.usefixtures("in_float16")
def test_a_process_without_a_case_takes_the_step_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def give(network: nn.Module, machine: Machine) -> None:
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, 65536.0)

    monkeypatch.setattr(stepping, "sum_gradients", give)
    monkeypatch.setattr(stepping, "sum_over_ranks", lambda value, *_: value)
    network = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(network.weight)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.5)
    stepper = Stepper(network, optimiser, Machine(rank=1, ranks=2), True, None)
    assert stepper.step(1, lambda: lambda part: pytest.fail("it has no case")) == 0
    assert network.weight.tolist() == [[-0.5, -0.5]]
