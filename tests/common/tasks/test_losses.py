"""Losses of the tasks: by hand, against slow references in float64, and their gradients."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from prostafed.common.tasks.anatomy import PZ, TZ, UNKNOWN, anatomy_loss
from prostafed.common.tasks.lesion import EMPTY, FOCUS, LESION_WEIGHT, focal_loss, lesion_loss
from prostafed.common.tasks.losses import soft_dice_loss
from prostafed.common.tasks.pirads import THRESHOLDS, count_votes, ordinal_loss

SIZE = (2, 3, 2)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def slow_focal(logits: Tensor, target: Tensor) -> float:
    terms = []
    for logit, truth in zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        right, weight = (p, LESION_WEIGHT) if truth else (1 - p, 1 - LESION_WEIGHT)
        terms.append(-weight * (1 - right) ** FOCUS * math.log(right))
    return sum(terms) / len(terms)


def slow_dice(probability: list[float], truth: list[bool]) -> float:
    both = sum(p for p, t in zip(probability, truth, strict=True) if t)
    return 1 - (2 * both + 1) / (sum(probability) + sum(truth) + 1)


def slow_anatomy(logits: Tensor, target: Tensor) -> float:
    """One case (channel, z, y, x), voxel after voxel."""
    gland_p, gland_truth, gland_entropy = [], [], []
    zone_p: dict[int, list[float]] = {PZ: [], TZ: []}
    zone_truth: dict[int, list[bool]] = {PZ: [], TZ: []}
    zone_entropy = []
    for voxel in np.ndindex(SIZE):
        p = np.exp(logits[(slice(None), *voxel)].numpy())
        p = p / p.sum()
        gland, zone = (int(target[(row, *voxel)]) for row in range(2))
        if gland != UNKNOWN:
            gland_p.append(p[PZ] + p[TZ])
            gland_truth.append(bool(gland))
            gland_entropy.append(-math.log(gland_p[-1] if gland else p[0]))
        if zone != UNKNOWN:
            zone_entropy.append(-math.log(p[zone]))
            for each in (PZ, TZ):
                zone_p[each].append(p[each])
                zone_truth[each].append(zone == each)
    loss = 0.0
    if gland_p:
        loss += float(np.mean(gland_entropy)) + slow_dice(gland_p, gland_truth)
    if zone_entropy:
        dices = [slow_dice(zone_p[each], zone_truth[each]) for each in (PZ, TZ)]
        loss += float(np.mean(zone_entropy)) + float(np.mean(dices))
    return loss


def slow_ordinal(logits: list[float], reads: tuple[int, ...]) -> float:
    """CORAL's loss of every reader's own score, a mean over the case's readers."""
    readers = []
    for score in reads:
        terms = []
        for logit, threshold in zip(logits, THRESHOLDS, strict=True):
            p = 1 / (1 + math.exp(-logit))
            terms.append(-math.log(p if score >= threshold else 1 - p))
        readers.append(sum(terms))
    return sum(readers) / len(readers)


def draw_anatomy(seed: int, known: list[tuple[bool, bool]]) -> Tensor:
    """Targets whose cases have (gland, zones) where `known` says so."""
    rng = np.random.default_rng(seed)
    zones = rng.integers(0, 3, (len(known), *SIZE))
    target = np.stack([zones > 0, zones], axis=1).astype(np.float64)
    for case, pair in enumerate(known):
        for row, has in enumerate(pair):
            if not has:
                target[case, row] = UNKNOWN
    return torch.from_numpy(target)


def test_focal_loss_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), math.log(3.0)]])  # one case of two voxels, probability 3/4
    target = torch.tensor([[1.0, 0.0]])
    hit = LESION_WEIGHT * (1 / 4) * -math.log(3 / 4)
    miss = (1 - LESION_WEIGHT) * (3 / 4) * -math.log(1 / 4)
    assert focal_loss(logits, target).item() == pytest.approx((hit + miss) / 2)


def test_dice_loss_by_hand() -> None:
    probability = torch.tensor([[1 / 2, 1 / 2, 0.0]] * 2)
    target = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert soft_dice_loss(probability, target).tolist() == pytest.approx([1 - 2 / 3, 1 - 1 / 2])
    assert soft_dice_loss(probability, target, torch.tensor([1.0, 3.0])).tolist() == pytest.approx(
        [1 - 2 / 3, 1 - 3 / 4]
    )


def test_dice_loss_is_nothing_when_right_and_nearly_one_when_wrong() -> None:
    target = (torch.arange(1000) < 100).float()[None]
    assert soft_dice_loss(target, target).item() == 0
    assert soft_dice_loss(1 - target, target).item() == pytest.approx(1 - 1 / 1001)
    assert soft_dice_loss(torch.zeros(1, 5), torch.zeros(1, 5)).item() == 0, "nothing there, nothing found"


def test_what_is_surer_of_the_truth_costs_less_in_a_lesion_and_outside() -> None:
    for truth in (0.0, 1.0):
        towards = torch.linspace(-6, 6, 20) * (2 * truth - 1)
        costs = focal_loss(towards[:, None], torch.full((20, 1), truth))
        assert (costs.diff() < 0).all()


def test_a_false_positive_costs_a_case_without_a_lesion_what_it_does_beside_one_that_is_found() -> None:
    """One of 100 of 2,000 voxels; but for the 1 in numerator and denominator."""
    lesion, stray = torch.zeros(2, 1, 2, 100, 10), torch.zeros(2, 1, 2, 100, 10)
    lesion[0, 0, 0, :10] = 1
    stray[:, 0, 1, 0] = 1
    assert EMPTY * lesion[0].numel() == lesion[0].sum() == 100
    logits = 40 * (2 * (lesion + stray).clamp_max(1) - 1)
    beside, alone = (lesion_loss(logits, lesion) - focal_loss(logits, lesion)).tolist()
    assert beside == pytest.approx(1 - 201 / 211)
    assert alone == pytest.approx(1 - 200 / 210)


def test_anatomy_loss_by_hand() -> None:
    logits = torch.log(torch.tensor([[1 / 2, 1 / 4, 1 / 4]]))[:, :, None, None, None]  # one case of one voxel
    in_tz, gland_only = torch.tensor([[1.0, TZ]]), torch.tensor([[1.0, UNKNOWN]])
    gland = -math.log(1 / 2) + 1 - 2 / (1 / 2 + 2)
    zones = -math.log(1 / 4) + ((1 - 1 / (1 / 4 + 1)) + (1 - 1.5 / (1 / 4 + 2))) / 2
    for target, expected in ((in_tz, gland + zones), (gland_only, gland)):
        assert anatomy_loss(logits, target[:, :, None, None, None]).item() == pytest.approx(expected)


def test_ordinal_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0), -math.log(3.0)]])
    expected = math.log(2) - (math.log(3 / 4) + math.log(1 / 4)) / 2 - math.log(3 / 4)
    assert ordinal_loss(logits, torch.tensor([[1.0, 0.5, 0.0]])).item() == pytest.approx(expected)


KNOWN = [(True, True), (True, False), (False, True), (True, True)]
READS: list[tuple[int, ...]] = [(1,), (5, 4, 3), (2, 2), (3,), (4, 5)]


@pytest.mark.parametrize("seed", range(5))
def test_every_loss_is_that_of_its_reference(seed: int) -> None:
    logits, target = 3 * draw(seed, 4, 1, *SIZE), (draw(seed + 50, 4, 1, *SIZE) > 0.5).double()
    cases = list(zip(logits, target, strict=True))
    assert focal_loss(logits, target).tolist() == pytest.approx([slow_focal(*case) for case in cases], abs=1e-6)
    expected = [slow_dice(p.sigmoid().flatten().tolist(), truth.flatten().bool().tolist()) for p, truth in cases]
    assert soft_dice_loss(logits.sigmoid(), target).tolist() == pytest.approx(expected, abs=1e-6)
    logits, target = 3 * draw(seed, len(KNOWN), 3, *SIZE), draw_anatomy(seed, KNOWN)
    expected = [slow_anatomy(*case) for case in zip(logits, target, strict=True)]
    assert anatomy_loss(logits, target).tolist() == pytest.approx(expected, abs=1e-6)
    logits, votes = 3 * draw(seed, 5, 3), torch.tensor([count_votes(reads) for reads in READS], dtype=torch.float64)
    expected = [slow_ordinal(*case) for case in zip(logits.tolist(), READS, strict=True)]
    assert ordinal_loss(logits, votes).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (lambda logits: focal_loss(logits, (draw(9, 4, 1, *SIZE) > 0).double()), (4, 1, *SIZE)),
        (lambda logits: soft_dice_loss(logits.sigmoid(), (draw(9, 4, 1, *SIZE) > 0).double()), (4, 1, *SIZE)),
        (lambda logits: lesion_loss(logits, (draw(9, 4, 1, *SIZE) > 1.5).double()), (4, 1, *SIZE)),
        (lambda logits: anatomy_loss(logits, draw_anatomy(9, KNOWN)), (4, 3, *SIZE)),
        (lambda logits: ordinal_loss(logits, draw(9, 5, 3).sigmoid()), (5, 3)),
    ],
)
def test_gradients_are_those_of_finite_differences(loss: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
    assert torch.autograd.gradcheck(loss, (draw(1, *shape).requires_grad_(),))


@pytest.mark.parametrize("known", [[(False, False)], [(False, False), (True, False)], [(False, True)] * 2])
def test_anatomy_is_finite_whatever_a_batch_lacks(known: list[tuple[bool, bool]]) -> None:
    logits = (80 * draw(0, len(known), 3, *SIZE)).requires_grad_()
    loss = anatomy_loss(logits, draw_anatomy(0, known)).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[0].any() or known[0] != (False, False), "a case without truth teaches nothing"


def test_the_order_of_cases_does_not_matter() -> None:
    order = torch.tensor([2, 0, 3, 1])
    logits, target = draw(0, 4, 3, *SIZE), draw_anatomy(0, KNOWN)
    assert torch.equal(anatomy_loss(logits[order], target[order]), anatomy_loss(logits, target)[order])
    logits, votes = draw(0, 4, 3), draw(1, 4, 3).sigmoid()
    assert torch.equal(ordinal_loss(logits[order], votes[order]), ordinal_loss(logits, votes)[order])
