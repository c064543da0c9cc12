"""The training loop of a site."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, nn

from prostafed.client.training.optimise import Optimisation, decayed, optimise, split_batches
from prostafed.common.errors import DataError

SETTINGS = Optimisation(epochs=2, batch_size=4, learning_rate=1e-2, weight_decay=0.0, seed=1)


@given(count=st.integers(1, 60), size=st.integers(1, 12), seed=st.integers(0, 99))
def test_an_epoch_holds_every_case_once_in_nearly_equal_batches(count: int, size: int, seed: int) -> None:
    batches = list(split_batches(count, size, Generator().manual_seed(seed)))
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_learning_rate_falls_along_a_cosine_to_a_tenth() -> None:
    rates = [decayed(1.0, number, 5) for number in range(1, 6)]
    assert rates[0] == 1.0
    assert rates[2] == pytest.approx(0.55)
    assert rates[4] == pytest.approx(0.1)
    assert decayed(1.0, 1, 1) == 1.0


def test_the_record_counts_steps_and_averages_the_last_epoch() -> None:
    network, seen = nn.Linear(1, 1), []

    def batch_loss(batch: list[int], generator: Generator) -> torch.Tensor:
        return network.weight.sum() * 0 + float(len(seen))

    record = optimise(network, batch_loss, 6, SETTINGS, lambda step, steps, loss: seen.append((step, steps)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (record.cases, record.steps) == (6, 4)
    assert record.loss == pytest.approx((2 * 3 + 3 * 3) / 6)


def test_same_seed_trains_the_same_and_another_does_not() -> None:
    def train(seed: int) -> float:
        torch.manual_seed(0)
        network = nn.Linear(3, 1)
        data = torch.randn(8, 3)

        def batch_loss(batch: list[int], generator: Generator) -> torch.Tensor:
            return (network(data[batch] + torch.randn(len(batch), 3, generator=generator)) ** 2).mean()

        optimise(network, batch_loss, 8, Optimisation(2, 4, 1e-2, 0.0, seed), lambda *_: None)
        return float(network.weight.detach().sum())

    assert train(1) == train(1)
    assert train(1) != train(2)


def test_no_case_and_a_loss_that_is_not_finite_are_said() -> None:
    network = nn.Linear(1, 1)
    with pytest.raises(DataError, match="no case"):
        optimise(network, lambda *_: torch.zeros(()), 0, SETTINGS, lambda *_: None)
    with pytest.raises(DataError, match="Lower the stage's learning_rate"):
        optimise(network, lambda *_: network.weight.sum() * math.nan, 2, SETTINGS, lambda *_: None)


def train_in_little_memory(room: int, divisible: bool) -> tuple[nn.Linear, list[int], float]:
    """Train on 7 cases with memory for `room` of them; return the network, the sizes that were tried and the loss."""
    torch.manual_seed(0)
    network, data, tried = nn.Linear(3, 1), torch.randn(7, 3), []

    def batch_loss(batch: list[int], generator: Generator) -> torch.Tensor:
        tried.append(len(batch))
        torch.rand(1, generator=generator)  # something drawn, as in augmentation
        if len(batch) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (network(data[batch]) ** 2).mean()

    settings = Optimisation(epochs=2, batch_size=7, learning_rate=1e-2, weight_decay=0.0, seed=1)
    record = optimise(network, batch_loss, 7, settings, lambda *_: None, divisible=divisible)
    return network, tried, record.loss


@pytest.mark.parametrize(("room", "tried"), [(7, [7, 7]), (5, [7, *[3, 2, 2] * 2]), (2, [7, 3, *[1] * 14])])
def test_a_batch_that_does_not_fit_is_halved_and_gives_the_same_step(
    room: int, tried: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    whole, _, loss = train_in_little_memory(7, divisible=True)
    network, sizes, halved_loss = train_in_little_memory(room, divisible=True)
    assert sizes == tried
    assert torch.allclose(network.weight, whole.weight, atol=1e-6)
    assert halved_loss == pytest.approx(loss, rel=1e-6)
    assert ("going on with 3" in caplog.text) == (room < 7), "and it is said"


def test_a_step_that_is_taken_again_draws_the_same() -> None:
    network, drawn = nn.Linear(1, 1), []

    def batch_loss(batch: list[int], generator: Generator) -> torch.Tensor:
        drawn.append(torch.rand(1, generator=generator).item())
        if len(drawn) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return network.weight.sum()

    optimise(network, batch_loss, 2, Optimisation(1, 2, 1e-2, 0.0, 1), lambda *_: None, divisible=True)
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(("room", "divisible"), [(4, False), (0, True)])
def test_what_cannot_be_halved_is_said(room: int, divisible: bool) -> None:
    with pytest.raises(DataError, match="Lower the stage's batch_size"):
        train_in_little_memory(room, divisible)
