"""Conditional uniformity: by hand, against a slow readable reference, and where nothing repels."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.ssl import build_method
from prostafed.common.ssl.alignment_uniformity import conditional_uniformity
from prostafed.common.ssl.conditional import conditional_alignment
from prostafed.common.ssl.kernels import rbf_kernel
from prostafed.common.ssl.methods import AlignmentUniformityParameters

AXES = torch.eye(2, dtype=torch.float64)


def reference(z1: torch.Tensor, z2: torch.Tensor, kernel: torch.Tensor, scale: float) -> float:
    views, count = [*z1, *z2], len(z1)

    def repulsion(i: int, j: int) -> float:
        same_case = i % count == j % count
        return 0.0 if same_case else 1 - float(kernel[i % count, j % count])

    total = 0.0
    for i in range(2 * count):
        row = sum(repulsion(i, k) for k in range(2 * count))
        for j in range(2 * count):
            if repulsion(i, j) > 0:
                total += repulsion(i, j) / row * math.exp(-scale * float(((views[i] - views[j]) ** 2).sum()))
    return math.log(total / count) if total else 0.0


def test_by_hand() -> None:
    # Each of four views repels the two of the other case, at squared distance 2: log (1/2) 4 exp(-2 t).
    # How alike the cases are is no matter while there are but two: a view's weights add up to 1.
    for alike in (0.0, 0.8):
        found = conditional_uniformity(AXES, AXES, torch.full((2, 2), alike), 1.5)
        assert found.item() == pytest.approx(math.log(2) - 3)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 6), seed=st.integers(0, 10_000), scale=st.floats(0.2, 3.0))
def test_agrees_with_the_slow_reference(count: int, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    z1, z2 = (normalize(torch.randn(count, 5, generator=generator, dtype=torch.float64)) for _ in range(2))
    labels = [[None, 1.0, 2.5, 4.0][int(torch.randint(4, (1,), generator=generator))] for _ in range(count)]
    kernel = rbf_kernel(labels, 1.0)
    found = conditional_uniformity(z1, z2, kernel, scale)
    assert found.item() == pytest.approx(reference(z1, z2, kernel, scale), abs=1e-9)


def test_gradients_are_those_of_finite_differences() -> None:
    z = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    kernel = rbf_kernel([1.0, 2.0, None, 4.0], 1.0)
    inputs = tuple(normalize(each).requires_grad_() for each in z)
    assert torch.autograd.gradcheck(lambda a, b: conditional_uniformity(a, b, kernel), inputs)


def test_cases_of_one_label_do_not_repel_each_other() -> None:
    assert conditional_uniformity(AXES, AXES, torch.ones(2, 2)) == 0
    pair_alone = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    z = normalize(torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    apart = torch.exp(-((z[:2] - z[2]) ** 2).sum(dim=1))
    # Rows 0 and 1 repel only case 2, row 2 both halves alike; two views each.
    by_hand = torch.log((2 * apart.sum() + 2 * apart.mean()) / 3)
    assert torch.allclose(conditional_uniformity(z, z, pair_alone), by_hand)


def test_the_method_adds_the_two_terms_with_their_weights() -> None:
    method = build_method(
        "alignment_uniformity", AlignmentUniformityParameters(scale=2.0, uniformity_weight=0.5, alignment_weight=3.0)
    )
    records = [CaseRecord("a", "a", pirads_reads=(2,)), CaseRecord("b", "b", pirads_reads=(4,))]
    kernel = rbf_kernel([2.0, 4.0], 1.0)
    z1, z2 = AXES, normalize(AXES + 0.3)
    expected = 0.5 * conditional_uniformity(z1, z2, kernel, 2.0) + 3.0 * conditional_alignment(z1, z2, kernel)
    assert torch.allclose(method.loss((z1, z2), records), expected)
