"""Learned transformations: strengths scale what was drawn, gradients reach them, and they pull against the network."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor, nn

from prostafed.common.imaging.augment import CONTRASTIVE, Preset, apply_augmentation, draw_augmentation
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.models.network import build_network
from prostafed.common.ssl import METHODS, build_method
from prostafed.common.ssl.method import Method
from prostafed.common.ssl.transforms import (
    LEARNED,
    LEARNED_AROUND_1,
    Transforms,
    judge_loss,
    learn_transforms,
    reverse_gradient,
    scale_augmentation,
)

SPACING, SIZE = (3.6, 1.5, 1.5), (8, 16, 16)
COUNT = len(LEARNED) + len(LEARNED_AROUND_1)
TWO_VIEWS = [name for name, entry in METHODS.items() if "projection" in entry.shared]
READS = [(4, 5), (2,), (3,), ()]


def make_images(count: int) -> Tensor:
    """Smooth, so that a finite difference in float32 means something."""
    noise = torch.randn(count, 3, 4, 4, 4, generator=Generator().manual_seed(3))
    return torch.nn.functional.interpolate(noise, SIZE, mode="trilinear")


def make(name: str = "simclr") -> tuple[Method, Method, nn.ModuleDict]:
    plain = build_method(name, METHODS[name].parameters())
    learning = learn_transforms(plain)
    network = build_network(
        sequences=3,
        spacing_mm=SPACING,
        size=SIZE,
        width=4,
        stages=3,
        norm="instance",
        groups=learning.heads,
        seed=0,
        stage=1,
    )
    return plain, learning, network


def records_of(reads: list[tuple[int, ...]]) -> list[CaseRecord]:
    return [CaseRecord(str(i), str(i), pirads_reads=read) for i, read in enumerate(reads)]


def test_strengths_start_at_the_preset_and_stay_between_0_and_2() -> None:
    transforms = Transforms()
    assert torch.equal(transforms(), torch.ones(COUNT))
    nn.init.constant_(transforms.raw, 1.0)
    assert (transforms() > 1.99).all()
    assert (transforms() < 2).all()
    nn.init.constant_(transforms.raw, -1.0)
    assert (transforms() > 0).all()


def test_strength_1_is_what_was_drawn_and_strength_0_is_nothing() -> None:
    images = make_images(2)
    drawn = draw_augmentation(2, SPACING, Generator().manual_seed(0), Preset(1, 1, 1, 0, 0))
    drawn = replace(drawn, flip=torch.zeros(2, dtype=torch.bool))
    same = apply_augmentation(images, scale_augmentation(drawn, torch.ones(COUNT)))
    assert torch.allclose(same, apply_augmentation(images, drawn), atol=1e-5)
    assert not torch.allclose(same, images, atol=0.1)
    assert torch.allclose(apply_augmentation(images, scale_augmentation(drawn, torch.zeros(COUNT))), images, atol=1e-4)


def test_each_strength_scales_its_own() -> None:
    drawn = draw_augmentation(2, SPACING, Generator().manual_seed(0), Preset(1, 1, 1, 1, 1))
    scaled = scale_augmentation(drawn, torch.arange(1.0, COUNT + 1))
    for factor, name in enumerate(LEARNED, start=1):
        assert torch.allclose(getattr(scaled, name), factor * getattr(drawn, name)), name
    for factor, name in enumerate(LEARNED_AROUND_1, start=1 + len(LEARNED)):
        assert torch.allclose(getattr(scaled, name) - 1, factor * (getattr(drawn, name) - 1)), name


def test_gradients_reach_every_strength_and_agree_with_differences() -> None:
    images = make_images(4)
    drawn = draw_augmentation(4, SPACING, Generator().manual_seed(0), Preset(1, 1, 1, 1, 1))
    weights = make_images(8)[4:]

    def loss(strengths: Tensor) -> Tensor:
        return (apply_augmentation(images, scale_augmentation(drawn, strengths)) * weights).double().sum()

    strengths = torch.full((COUNT,), 0.7, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(strengths), strengths)
    for index in range(COUNT):
        step = torch.zeros(COUNT)
        step[index] = 2e-3
        difference = (loss(strengths.detach() + step) - loss(strengths.detach() - step)).item() / 4e-3
        assert gradient[index].item() == pytest.approx(difference, rel=0.05, abs=0.3), index
        assert abs(gradient[index]) > 0.5


def test_a_reversed_gradient_changes_its_sign_and_nothing_else() -> None:
    values = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    seen = reverse_gradient(values)
    assert torch.equal(seen, values)
    assert torch.autograd.grad((seen * torch.tensor([1.0, 2.0, 3.0])).sum(), values)[0].tolist() == [-1, -2, -3]


def reference_judge_loss(logits: Tensor, labels: list[int | None]) -> float:
    total, known = 0.0, 0
    for logit, label in zip(logits.tolist(), labels, strict=True):
        if label is not None:
            probability = 1 / (1 + math.exp(-logit))
            total -= math.log(probability if label else 1 - probability)
            known += 1
    return total / known


def test_the_judge_counts_labelled_cases_only() -> None:
    logits = torch.tensor([0.3, -1.2, 2.0, 0.7], dtype=torch.float64, requires_grad=True)
    labels = [1, 0, None, 0]
    assert judge_loss(logits, labels).item() == pytest.approx(reference_judge_loss(logits, labels), abs=1e-6)
    assert torch.autograd.gradcheck(lambda given: judge_loss(given, labels), logits)
    assert judge_loss(logits[:1], [1]).item() == pytest.approx(math.log(1 + math.exp(-0.3)))
    nobody = judge_loss(logits, [None] * 4)
    assert nobody.item() == 0
    assert not torch.autograd.grad(nobody, logits)[0].any()


def test_strengths_minimise_supervised_minus_contrastive_and_the_network_their_sum() -> None:
    plain, learning, network = make()
    images, records = make_images(4), records_of(READS)
    seen = learning.views(images, SPACING, Generator().manual_seed(5))

    def gradients(part: str) -> tuple[Tensor, Tensor]:
        given = learning.outputs(network, seen)
        labels = [1, 0, None, None]
        contrastive, supervised = plain.loss(given[:-1], records), judge_loss(given[-1], labels)
        loss = {"both": learning.loss(given, records), "contrastive": contrastive, "supervised": supervised}[part]
        encoder = network.get_parameter(next(name for name, _ in network.named_parameters()))
        raw, first = torch.autograd.grad(loss, [network.get_parameter("transforms.raw"), encoder], allow_unused=True)
        assert raw is not None
        assert first is not None
        return raw, first

    both, contrastive, supervised = (gradients(part) for part in ("both", "contrastive", "supervised"))
    for index in (0, 1):
        assert torch.allclose(both[index], contrastive[index] + supervised[index], atol=1e-5)
    # against views whose gradient is not reversed
    strengths = network["transforms"]()
    draws = [draw_augmentation(4, SPACING, Generator().manual_seed(seed), CONTRASTIVE) for seed in seen[1][0].tolist()]
    views = tuple(apply_augmentation(images, scale_augmentation(drawn, strengths)) for drawn in draws)
    uphill = torch.autograd.grad(
        plain.loss(plain.outputs(network, views), records), network.get_parameter("transforms.raw")
    )[0]
    assert uphill.abs().max() > 1e-4
    assert torch.allclose(contrastive[0], -uphill, atol=1e-5)


def test_a_study_asks_for_it_by_a_parameter() -> None:
    parameters = METHODS["simclr"].parameters()
    assert "transforms" not in build_method("simclr", parameters).heads
    assert "transforms" in build_method("simclr", replace(parameters, learned_transforms=True)).heads


@pytest.mark.parametrize("name", TWO_VIEWS)
class TestEveryMethodOfTwoViews:
    def test_it_trains_and_what_was_added_stays_at_the_site(self, name: str) -> None:
        _, learning, network = make(name)
        assert not {"transforms", "judge"} & set(METHODS[name].shared)
        optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
        seen = learning.views(make_images(4), SPACING, Generator().manual_seed(5))
        assert all(len(tensor) == 4 for tensor in seen)
        given = learning.outputs(network, seen)
        learning.loss(given, records_of(READS)).backward()
        optimiser.step()
        if learning.advance is not None:
            learning.advance(network, given)
        strengths = network["transforms"]()
        assert torch.isfinite(strengths).all()
        assert (strengths != 1).any()

    @pytest.mark.parametrize("reads", [[(), ()], [(3,), (3,)], [(5,)]])
    def test_gradients_are_finite_with_one_label_or_none(self, name: str, reads: list[tuple[int, ...]]) -> None:
        _, learning, network = make(name)
        given = learning.outputs(network, learning.views(make_images(len(reads)), SPACING, Generator().manual_seed(5)))
        learning.loss(given, records_of(reads)).backward()
        for parameter in network.parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all()
