"""One step of a batch, whole or in parts."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor, nn

from prostafed.client.training.machine import Machine, say_once
from prostafed.client.training.stepper import PartLoss, Stepper, split_evenly


@given(start=st.integers(0, 5), count=st.integers(0, 40), parts=st.integers(1, 9))
def test_parts_are_those_of_tensor_split(start: int, count: int, parts: int) -> None:
    found = [list(range(part.start, part.stop)) for part in split_evenly(start, start + count, parts)]
    assert found == [part.tolist() for part in torch.tensor_split(torch.arange(start, start + count), parts)]


def make_gradients(micro_batch: int, divisible: bool, sizes: list[int]) -> tuple[Tensor, float]:
    torch.manual_seed(0)
    network, data = nn.Linear(3, 1), torch.randn(7, 3)
    stepper = Stepper(
        network, torch.optim.SGD(network.parameters()), Machine(micro_batch=micro_batch), 7, divisible, None
    )

    def batch_loss(batch: list[int], generator: Generator) -> PartLoss:
        seen = data[batch] + torch.randn(7, 3, generator=generator)

        def part_loss(part: slice) -> Tensor:
            sizes.append(part.stop - part.start)
            return (network(seen[part]) ** 2).mean()

        return part_loss

    loss = stepper.backward(list(range(7)), batch_loss, Generator().manual_seed(3))
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
    stepper = Stepper(network, optimiser, Machine(), 1, True, partial(adjust, by=30.0))
    stepper.backward([0], lambda *_: lambda part: 10 * network.weight.sum(), Generator())
    stepper.update()
    assert torch.allclose(network.weight.norm(), torch.tensor(5.0), rtol=1e-5)
