"""The training loop of a site."""

import copy
import math

import pytest
import torch
from torch import Generator, nn

from prostafed.client.training.loop import DIVERGED, Continuation, State, decayed
from prostafed.client.training.optimisers import Optimisation, pack_states, unpack_state
from prostafed.client.training.step import PartLoss
from prostafed.common.errors import DataError, DivergedError
from tests.client.training.learn import learn

SETTINGS = Optimisation(epochs=2, batch_size=4, learning_rate=1e-2, weight_decay=0.0, seed=1)


def test_learning_rate_falls_along_a_cosine_to_a_tenth() -> None:
    rates = [decayed(1.0, number, 5) for number in range(1, 6)]
    assert rates[0] == 1.0
    assert rates[2] == pytest.approx(0.55)
    assert rates[4] == pytest.approx(0.1)
    assert decayed(1.0, 1, 1) == 1.0


def test_the_record_counts_steps_and_averages_the_last_epoch() -> None:
    network, seen = nn.Linear(1, 1), []

    def batch_loss(batch: list[int], generator: Generator) -> PartLoss:
        return lambda part: network.weight.sum() * 0 + float(len(seen))

    record = learn(network, batch_loss, 6, SETTINGS, on_step=lambda *said: seen.append(said))
    assert [said[:2] for said in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [said[2] for said in seen] == [0, 0.5, 2, 2.5], "the mean of the epoch so far"
    assert (record.cases, record.steps) == (6, 4)
    assert record.loss == pytest.approx((2 * 3 + 3 * 3) / 6)


def test_same_seed_trains_the_same_and_another_does_not() -> None:
    def train(seed: int) -> float:
        torch.manual_seed(0)
        network = nn.Linear(3, 1)
        data = torch.randn(8, 3)

        def batch_loss(batch: list[int], generator: Generator) -> PartLoss:
            seen = data[batch] + torch.randn(len(batch), 3, generator=generator)
            return lambda part: (network(seen[part]) ** 2).mean()

        learn(network, batch_loss, 8, Optimisation(2, 4, 1e-2, 0.0, seed))
        return float(network.weight.detach().sum())

    assert train(1) == train(1)
    assert train(1) != train(2)


def test_a_network_that_was_evaluated_is_trained_as_one_in_training() -> None:
    network, modes = nn.Linear(1, 1).eval(), []

    def batch_loss(batch: list[int], generator: Generator) -> PartLoss:
        modes.append(network.training)
        return lambda part: network.weight.sum()

    learn(network, batch_loss, 2, SETTINGS)
    assert all(modes), "dropout and the like are on"


def test_what_is_taken_up_of_a_kept_optimiser_leaves_what_was_kept_as_it_is() -> None:
    kept = pack_states({"shared": {0: {"momentum_buffer": torch.ones(2)}}})
    taken = unpack_state(kept, "shared")
    assert taken[0]["momentum_buffer"].mul_(5).tolist() == [5, 5]
    assert kept["shared/0/momentum_buffer"].tolist() == [1, 1]


def test_no_case_and_a_loss_that_is_not_finite_are_said() -> None:
    network = nn.Linear(1, 1)
    with pytest.raises(DataError, match="no case"):
        learn(network, lambda *_: lambda part: torch.zeros(()), 0, SETTINGS)
    with pytest.raises(DataError, match="Lower the stage's learning_rate"):
        learn(network, lambda *_: lambda part: network.weight.sum() * math.nan, 2, SETTINGS)


@pytest.mark.parametrize("begins", [0.5, 40.0, -3.0])
def test_a_loss_that_runs_away_is_said_and_a_rough_patch_is_not(begins: float) -> None:
    def run(peak: float, at: int) -> float:
        network, passes = nn.Linear(1, 1), iter(range(4))
        losses = [peak if number == at else begins for number in range(4)]

        def batch_loss(batch: list[int], generator: Generator) -> PartLoss:
            loss = losses[next(passes)]
            return lambda part: network.weight.sum() * 0 + loss

        return learn(network, batch_loss, 6, SETTINGS).loss

    bound = DIVERGED * max(1.0, begins)  # of the mean of an epoch, here of two steps
    assert run(1.9 * bound, at=3) > begins
    for at in (1, 2, 3):
        with pytest.raises(
            DivergedError, match=rf"rose from {begins:.3g} .* in epoch {1 + at // 2}: training diverged"
        ):
            run(2.2 * bound, at)


def test_a_learning_rate_far_too_high_is_said() -> None:
    torch.manual_seed(0)
    network, data = nn.Linear(3, 1), torch.randn(8, 3)
    settings = Optimisation(8, 4, 10.0, 0.0, 1, "sgd")
    with pytest.raises(DivergedError, match="Lower the stage's learning_rate"):
        learn(network, lambda batch, _: lambda part: (network(data[batch][part]) ** 2).mean(), 8, settings)  # fmt: skip


def train_in_little_memory(room: int, divisible: bool) -> tuple[nn.Linear, list[int], float]:
    """Train on 7 cases with memory for `room` of them; return the network, the sizes that were tried and the loss."""
    torch.manual_seed(0)
    network, data, tried = nn.Linear(3, 1), torch.randn(7, 3), []

    def batch_loss(batch: list[int], generator: Generator) -> PartLoss:
        seen = data[batch] + torch.randn(len(batch), 3, generator=generator)  # something drawn, as in augmentation

        def part_loss(part: slice) -> torch.Tensor:
            tried.append(part.stop - part.start)
            if tried[-1] > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return (network(seen[part]) ** 2).mean()

        return part_loss

    settings = Optimisation(epochs=2, batch_size=7, learning_rate=1e-2, weight_decay=0.0, seed=1)
    record = learn(network, batch_loss, 7, settings, divisible=divisible)
    return network, tried, record.loss


@pytest.mark.parametrize(("room", "tried"), [(7, [7, 7]), (5, [7, *[3, 2, 2] * 2]), (2, [7, 3, *[1] * 14])])
def test_a_batch_that_does_not_fit_is_halved_and_gives_the_same_step(
    room: int, tried: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    whole, _, loss = train_in_little_memory(7, divisible=True)
    network, sizes, halved_loss = train_in_little_memory(room, divisible=True)
    assert sizes == tried
    assert torch.allclose(network.weight, whole.weight, atol=1e-6), "what is drawn does not depend on the parts"
    assert halved_loss == pytest.approx(loss, rel=1e-6)
    assert ("going on with 3" in caplog.text) == (room < 7), "and it is said"


def test_a_step_that_is_taken_again_draws_the_same() -> None:
    network, drawn = nn.Linear(1, 1), []

    def batch_loss(batch: list[int], generator: Generator) -> PartLoss:
        drawn.append(torch.rand(1, generator=generator).item())
        if len(drawn) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return lambda part: network.weight.sum()

    learn(network, batch_loss, 2, Optimisation(2, 2, 1e-2, 0.0, 1), divisible=True)
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_a_batch_draws_does_not_depend_on_what_another_drew() -> None:
    def train(wasteful: bool) -> list[float]:
        network, drawn = nn.Linear(1, 1), []

        def batch_loss(batch: list[int], generator: Generator) -> PartLoss:
            drawn.append(torch.rand(1, generator=generator).item())
            torch.rand(len(drawn) if wasteful else 1, generator=generator)
            return lambda part: network.weight.sum()

        learn(network, batch_loss, 6, SETTINGS)
        return drawn

    assert train(wasteful=True) == train(wasteful=False)
    assert len(set(train(wasteful=False))) == 4


def test_no_state_of_a_generator_is_handed_out() -> None:
    network, states = nn.Linear(1, 1), list[State]()
    learn(network, lambda *_: lambda part: network.weight.sum(), 6, SETTINGS,
          continuation=Continuation(on_state=states.append, every_s=0.0))  # fmt: skip
    assert states[0].keys() == {"network", "optimiser", "at_once", "scaler", "progress"}


@pytest.mark.parametrize(
    ("room", "divisible", "said"),
    [(4, False, "Lower the stage's batch_size"), (0, True, "A single case does not fit into the GPU's memory")],
)
def test_what_cannot_be_halved_is_said(room: int, divisible: bool, said: str) -> None:
    with pytest.raises(DataError, match=said):
        train_in_little_memory(room, divisible)


def train_interrupted(stop_after: int | None, optimiser: str) -> tuple[list[bytes], float]:
    """Train three epochs of four steps, killed after some step and taken up again from the last state handed out."""
    data, states = torch.arange(21.0).view(7, 3) / 10, []

    def run(continuation: Continuation) -> tuple[list[bytes], float]:
        torch.manual_seed(0)
        network = nn.Linear(3, 1)

        def batch_loss(batch: list[int], generator: Generator) -> PartLoss:
            seen = data[batch] + torch.randn(len(batch), 3, generator=generator)
            return lambda part: (network(seen[part]) ** 2).mean()

        settings = Optimisation(3, 2, 1e-2, 1e-2, 1, optimiser)  # type: ignore[arg-type]
        record = learn(network, batch_loss, 7, settings, continuation=continuation)
        assert record.steps == 12
        return [tensor.numpy().tobytes() for tensor in network.state_dict().values()], record.loss

    def keep(state: State) -> None:
        states.append(copy.deepcopy(state))
        if len(states) == stop_after:
            raise InterruptedError

    if stop_after is None:
        return run(Continuation())
    with pytest.raises(InterruptedError):
        run(Continuation(on_state=keep, every_s=0.0))
    return run(Continuation(start=states[-1]))


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("stop_after", [1, 3, 4, 5, 11, 12])
def test_a_round_taken_up_again_ends_with_the_same_bytes(stop_after: int, optimiser: str) -> None:
    assert train_interrupted(stop_after, optimiser) == train_interrupted(None, optimiser)


def test_no_state_is_handed_out_before_its_time() -> None:
    network = nn.Linear(1, 1)
    for every_s, expected in ((math.inf, 0), (3600.0, 0), (0.0, 4)):
        states: list[State] = []
        continuation = Continuation(on_state=states.append, every_s=every_s)
        learn(
            network,
            lambda *_: lambda part: network.weight.sum(),
            6,
            SETTINGS,
            continuation=continuation,
        )
        assert len(states) == expected


def test_a_kept_optimiser_goes_on_with_this_rounds_learning_rate() -> None:
    """Two rounds of one step are one round of two steps, where the seed and the rate are the same."""

    def train(rounds: int, epochs: int, keep: bool, second_rate: float = 1e-2) -> list[float]:
        torch.manual_seed(0)
        network, state = nn.Linear(3, 1), None
        for number in range(rounds):
            settings = Optimisation(epochs, 4, second_rate if number else 1e-2, 0.0, 1)
            record = learn(network, lambda *_: lambda part: (network.weight**3).sum(), 4, settings,
                              continuation=Continuation(optimiser=state))  # fmt: skip
            state = record.optimiser if keep else None
        return network.weight.detach().flatten().tolist()

    assert train(2, 1, keep=True) == train(1, 2, keep=True)
    assert train(2, 1, keep=False) != train(1, 2, keep=True)
    assert train(2, 1, keep=True, second_rate=1e-3) != train(2, 1, keep=True)


def test_sgd_is_plain() -> None:
    network = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(network.weight)
    settings = Optimisation(3, 1, 0.1, 0.0, 1, "sgd")
    record = learn(network, lambda *_: lambda part: 0.5 * network.weight.sum(), 1, settings)
    assert torch.allclose(network.weight, torch.full((1, 2), -3 * 0.1 * 0.5))
    assert record.rates == {"weight": 0.1}
