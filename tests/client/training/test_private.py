"""DP-SGD over patients: what is sampled, clipped and added, by hand, by statistics and against Opacus itself."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from scipy import stats
from torch import Generator, Tensor, nn

from prostafed.client.training.feed import Batch, Feed
from prostafed.client.training.loop import Continuation, State, TrainingRecord
from prostafed.client.training.objective import Objective
from prostafed.client.training.optimisers import Optimisation, Tuning
from prostafed.client.training.private import NoisyOptimizer, optimise_privately
from prostafed.client.training.rules.rule import add_constant
from prostafed.client.training.sampling import Noise
from prostafed.client.training.step import PartLoss
from prostafed.common.errors import ConfigurationError, DataError, DivergedError
from prostafed.common.imaging.cases import CaseRecord, CasesInMemory, Grid
from prostafed.common.privacy.noise import open_sources
from prostafed.common.privacy.plan import NoisePlan

GRID, CPU = Grid((1.0, 1.0, 1.0), (1, 1, 1)), torch.device("cpu")
SGD = Optimisation(1, 1, learning_rate=0.5, weight_decay=0.0, seed=0, optimiser="sgd")
CaseLoss = Callable[[CaseRecord, Generator], Tensor]


def make_feed(*patients: str, value: float = 1.0) -> Feed:
    """Return a feed of a case for each of `patients`, in order; their images hold `value`."""
    records = tuple(CaseRecord(f"case{number}", patient) for number, patient in enumerate(patients))
    arrays = (np.full((1, 1, 1, 1), value, np.float16), np.zeros((3, 1, 1, 1), np.uint8))
    return Feed(CasesInMemory(records, (arrays,) * len(records)), range(len(records)), GRID, CPU)


def learn_from(loss: CaseLoss, *, divisible: bool = True) -> Objective:
    """Return an objective whose loss of a batch is that of its only case."""

    def batch_loss(network: Any, batch: Batch, generator: Generator) -> PartLoss:
        assert len(batch.records) == 1, "one case at a time"
        return lambda part: loss(batch.records[0], generator)

    return Objective(lambda record: True, False, batch_loss, divisible)


def plan(units: int, rate: float = 1.0, steps: int = 1, *, clip: float = 1.0, noise: float = 0.0) -> NoisePlan:
    return NoisePlan("patient", units, rate, steps, clip, noise, 1e-5)


def vector(size: int = 2) -> nn.Module:
    network = nn.Module()
    network.encoder = nn.Module()
    network.encoder.weight = nn.Parameter(torch.zeros(size))
    return network


def train(network: nn.Module, loss: CaseLoss, feed: Feed, how: NoisePlan, **options: Any) -> TrainingRecord:
    noise = Noise(how, open_sources(options.pop("seed", 0)), options.pop("canaries", ()))
    settings, joining = options.pop("settings", SGD), Continuation(**options)
    return optimise_privately(network, learn_from(loss), feed, settings, noise, (joining, lambda *_: None))


@contextmanager
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect for each step the clipped sum of the first parameter, and what became of it before scaling."""
    seen: list[tuple[Tensor, Tensor]] = []
    plain = NoisyOptimizer.add_noise

    def add_noise(self: NoisyOptimizer) -> None:
        plain(self)
        first = self.params[0]
        assert first.grad is not None
        seen.append((first.summed_grad.clone(), first.grad.clone()))

    monkeypatch.setattr(NoisyOptimizer, "add_noise", add_noise)
    yield seen


def test_each_patient_is_clipped_and_the_sum_is_divided_by_the_expected_number() -> None:
    """Gradients (3, 4), (0.3, 0) and (0, -8) of four patients, C = 1: (0.6, 0.8) + (0.3, 0) + (0, -1), over 4."""
    network, gradients = vector(), {"a": [3.0, 4.0], "b": [0.3, 0.0], "c": [0.0, -8.0], "d": [0.0, 0.0]}
    record = train(
        network,
        lambda case, _: network.encoder.weight @ torch.tensor(gradients[case.patient_id]),
        make_feed("a", "b", "c", "d"),
        plan(4),
    )
    expected = -0.5 * torch.tensor([0.9, -0.2]) / 4
    assert torch.allclose(network.encoder.weight, expected, atol=1e-6)
    assert (record.steps, record.cases) == (1, 4)


@pytest.mark.parametrize("wild", [1e3, 1e30, math.inf, math.nan])
@pytest.mark.parametrize("studies", [1, 2])
def test_one_patient_moves_a_step_by_no_more_than_the_bound(wild: float, studies: int) -> None:
    """Two runs that draw alike, with the patient and with nothing in the patient's place: whatever the loss, and with
    two studies, each step differs by lr C / expected batch at most.
    """
    steps, clip, patients = 20, 0.7, ("a", "b", "c", "d", *["wild"] * studies)
    ended = []
    for present in (True, False):
        network = vector()

        def loss(case: CaseRecord, generator: Generator, network: Any = network, present: bool = present) -> Tensor:
            direction = torch.randn(2, generator=generator)  # of no step before
            share = (wild if present else 0.0) if case.patient_id == "wild" else 1.0
            return (network.encoder.weight.detach() * 0 + network.encoder.weight) @ direction * share

        train(network, loss, make_feed(*patients), plan(5, 0.5, steps, clip=clip, noise=1e-6))
        ended.append(network.encoder.weight.detach())
    moved = float((ended[0] - ended[1]).norm())
    assert moved <= steps * 0.5 * clip / 2.5 * (1 + 1e-4)
    assert math.isfinite(moved)
    assert (moved > 0) == (wild == 1e3), "what has no norm in float32 counts as nothing"


def test_two_studies_of_a_patient_are_never_both_in_a_step() -> None:
    seen: list[str] = []
    network = vector()

    def loss(case: CaseRecord, _: Generator) -> Tensor:
        seen.append(case.case_id)
        return network.encoder.weight.sum()

    train(network, loss, make_feed("a", "a", "a"), plan(1, 1.0, 30))
    assert len(seen) == 30
    assert set(seen) == {"case0", "case1", "case2"}
    assert torch.allclose(network.encoder.weight, torch.full((2,), -0.5 * 30 / math.sqrt(2)), rtol=1e-4)


def test_the_noise_is_gaussian_in_every_coordinate(monkeypatch: pytest.MonkeyPatch) -> None:
    network, steps = vector(4), 800
    with recording(monkeypatch) as seen:
        train(
            network,
            lambda *_: network.encoder.weight.sum() * 0,
            make_feed("a", "b"),
            plan(2, 0.5, steps, clip=3.0, noise=2.0),
        )
    noise = torch.stack([noised - summed for summed, noised in seen]).numpy()
    assert noise.shape == (steps, 4)
    for coordinate in noise.T:
        assert stats.kstest(coordinate, "norm", args=(0, 6.0)).pvalue > 0.001
        assert np.std(coordinate) == pytest.approx(6.0, rel=0.12)
        assert abs(np.corrcoef(coordinate[1:], coordinate[:-1])[0, 1]) < 0.15
    assert np.abs(np.corrcoef(noise.T) - np.eye(4)).max() < 0.15


def test_what_the_optimiser_is_given_has_the_noise_of_the_plan_over_the_expected_batch() -> None:
    """Without a gradient a weight walks by lr sigma C / expected batch a step."""
    network, steps = vector(500), 20
    train(
        network,
        lambda *_: network.encoder.weight.sum() * 0,
        make_feed("a", "b", "c", "d"),
        plan(4, 0.5, steps, clip=3.0, noise=2.0),
    )
    expected = 0.5 * (2.0 * 3.0 / 2.0) * math.sqrt(steps)
    assert float(network.encoder.weight.detach().std()) == pytest.approx(expected, rel=0.1)


def test_patients_are_in_a_step_by_lot_each_by_itself() -> None:
    rate, steps, patients = 0.3, 2000, ("a", "b", "c")
    chosen: list[str] = []
    in_step: list[int] = []
    network = vector()

    def loss(case: CaseRecord, _: Generator) -> Tensor:
        chosen.append(case.patient_id)
        return network.encoder.weight.sum()

    optimise_privately(
        network,
        learn_from(loss),
        make_feed(*patients),
        SGD,
        Noise(plan(3, rate, steps), open_sources(0)),
        (Continuation(), lambda *_: in_step.append(len(chosen))),
    )
    for patient in patients:
        assert stats.binomtest(chosen.count(patient), steps, rate).pvalue > 0.001
    sizes = np.bincount(np.diff([0, *in_step]), minlength=4)
    assert stats.chisquare(sizes, steps * stats.binom.pmf(range(4), 3, rate)).pvalue > 0.001


def test_a_step_without_patients_is_a_step_with_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    network = vector()
    with recording(monkeypatch) as seen:
        record = train(network, lambda *_: network.encoder.weight.sum(), make_feed("a"), plan(1, 1e-9, 3, noise=1.0))
    assert record.steps == 3
    assert all(not summed.any() and noised.all() for summed, noised in seen)
    assert network.encoder.weight.all()


def test_it_is_what_opacus_does_on_a_plain_network() -> None:
    """Clipped sums of a convolutional network, gradients of single cases by Opacus's own hooks."""
    torch.manual_seed(0)
    images = torch.randn(5, 1, 4, 4, 4)

    def build() -> nn.ModuleDict:
        torch.manual_seed(1)
        layers = nn.Sequential(nn.Conv3d(1, 3, 3), nn.GroupNorm(1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 1))
        return nn.ModuleDict({"encoder": layers})

    theirs = GradSampleModule(build())
    optimiser = DPOptimizer(
        torch.optim.SGD(theirs.parameters(), lr=0.5), noise_multiplier=0.0, max_grad_norm=0.1, expected_batch_size=5
    )
    theirs._module["encoder"](images.requires_grad_()).square().mean().backward()
    optimiser.step()
    ours = build()
    feed = make_feed(*"abcde")
    train(
        ours,
        lambda case, _: ours["encoder"](images[[int(case.case_id.removeprefix("case"))]]).square().mean(),
        feed,
        plan(5, clip=0.1),
    )
    for mine, other in zip(ours.parameters(), theirs._module.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-6)


def test_what_a_rule_adds_is_added_after_the_noise_and_not_clipped() -> None:
    network = vector()
    constant = add_constant({"encoder.weight": np.array([10.0, 0.0], np.float32)})
    train(network, lambda *_: network.encoder.weight.sum() * 0, make_feed("a"), plan(1), adjust=constant)
    assert network.encoder.weight.tolist() == [-5.0, 0.0]


def test_hospitals_never_draw_alike_and_a_simulation_always() -> None:
    def run(seed: int | None) -> list[float]:
        network = vector()
        train(
            network, lambda *_: network.encoder.weight.sum(), make_feed("a", "b"), plan(2, 0.5, 3, noise=1.0), seed=seed
        )
        found: list[float] = network.encoder.weight.tolist()
        return found

    assert run(3) == run(3) != run(4)
    assert run(None) != run(None)


def test_a_frozen_encoder_keeps_every_bit_and_the_rest_has_noise() -> None:
    network = nn.ModuleDict({"encoder": nn.Linear(2, 2), "score": nn.Linear(2, 1)})
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    settings = Optimisation(1, 1, 0.5, 0.0, 0, tuning=Tuning(frozen=True))
    train(
        network,
        lambda *_: network["score"](network["encoder"](torch.ones(1, 2))).sum(),
        make_feed("a"),
        plan(1, noise=1.0),
        settings=settings,
    )
    kept = {name for name, tensor in network.state_dict().items() if torch.equal(tensor, before[name])}
    assert kept == {"encoder.weight", "encoder.bias"}


def test_an_interrupted_round_of_a_simulation_ends_with_the_same_bits() -> None:
    def loss_of(network: Any) -> CaseLoss:
        return lambda case, generator: (network.encoder.weight * torch.randn(2, generator=generator)).sum()

    how, feed, settings = plan(3, 0.5, 6, noise=1.0), make_feed("a", "b", "c"), Optimisation(1, 1, 0.1, 0.0, 0)
    whole, broken, again = vector(), vector(), vector()
    expected = train(whole, loss_of(whole), feed, how, settings=settings, canaries=(True, False))
    states: list[State] = []

    def keep(state: State) -> None:
        states.append(state)
        if state["progress"]["steps"] == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(broken, loss_of(broken), feed, how, settings=settings, on_state=keep, every_s=0.0, canaries=(True, False))
    record = train(again, loss_of(again), feed, how, settings=settings, start=states[-1], canaries=(True, False))
    assert torch.equal(again.encoder.weight, whole.encoder.weight)
    assert record.scores == expected.scores
    assert set(record.optimiser) == {0}, "what canaries have is not kept with the network's"


def test_canaries_are_noised_like_the_network_and_leave_no_trace_in_it() -> None:
    """Of 400 that take part in each step with q = 1/2, noise 1: a mean score of q T, and a variance of T (q/4 + 1)."""
    lots, steps = (True, False) * 400, 50
    networks = [vector(), vector()]
    for network, canaries in zip(networks, (lots, ()), strict=True):
        record = train(
            network,
            lambda *_, network=network: network.encoder.weight.sum() * 0,  # type: ignore[misc]
            make_feed("a", "b"),
            plan(2, 0.5, steps, clip=3.0),
            canaries=canaries,
        )
    assert torch.equal(networks[0].encoder.weight, networks[1].encoder.weight)
    assert set(networks[0].state_dict()) == {"encoder.weight"}
    network = vector()
    record = train(
        network,
        lambda *_: network.encoder.weight.sum(),
        make_feed("a", "b"),
        plan(2, 0.5, steps, clip=3.0, noise=1.0),
        canaries=lots,
    )
    scores = np.array(record.scores)
    assert scores[::2].mean() == pytest.approx(25, abs=1.5)
    assert scores[1::2].mean() == pytest.approx(0, abs=1.5)
    assert scores[1::2].std() == pytest.approx(math.sqrt(steps), rel=0.15)
    assert scores[::2].std() == pytest.approx(math.sqrt(steps * 1.25), rel=0.15)


def test_weights_that_are_not_finite_end_the_round() -> None:
    network = vector()
    settings = Optimisation(1, 1, 1e38, 0.0, 0, optimiser="sgd")
    with pytest.raises(DivergedError, match="learning_rate"):
        train(
            network,
            lambda *_: network.encoder.weight.sum(),
            make_feed("a"),
            plan(1, 1.0, 9, noise=100.0),
            settings=settings,
        )


def test_what_cannot_be_hidden_is_refused() -> None:
    network, feed = vector(), make_feed("a", "b")
    noise = Noise(plan(2), open_sources(0))
    with pytest.raises(ConfigurationError, match="sum over cases"):
        optimise_privately(network, learn_from(lambda *_: torch.zeros(()), divisible=False), feed, SGD, noise)
    with pytest.raises(ConfigurationError, match="2 patients are trained on"):
        train(network, lambda *_: network.encoder.weight.sum(), feed, plan(3))
    with pytest.raises(DataError, match="no case"):
        train(network, lambda *_: network.encoder.weight.sum(), make_feed(), plan(3))
    mixing = nn.ModuleDict({"encoder": nn.BatchNorm3d(1)})
    with pytest.raises(ConfigurationError, match="BatchNorm3d"):
        train(mixing, lambda *_: torch.zeros(()), feed, plan(2))
