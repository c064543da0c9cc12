"""Barlow Twins: by hand, and against a slow readable reference."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prostafed.common.ssl.barlow import cross_correlation, redundancy_loss


def reference(z1: torch.Tensor, z2: torch.Tensor, lambda_: float) -> float:
    count, length = z1.shape

    def standardised(z: torch.Tensor, k: int) -> list[float]:
        values = [float(value) for value in z[:, k]]
        mean = sum(values) / count
        root = math.sqrt(sum((value - mean) ** 2 for value in values) / count + 1e-5)
        return [(value - mean) / root for value in values]

    total = 0.0
    for i in range(length):
        for j in range(length):
            pairs = zip(standardised(z1, i), standardised(z2, j), strict=True)
            c = sum(a * b for a, b in pairs) / count
            total += (1 - c) ** 2 if i == j else lambda_ * c**2
    return total


def test_by_hand() -> None:
    z = torch.tensor([[1.0, -3.0], [-1.0, 3.0]], dtype=torch.float64)  # the second coordinate mirrors the first
    expected = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    assert torch.allclose(cross_correlation(z, z), expected, atol=1e-4)
    assert redundancy_loss(z, z, 0.5).item() == pytest.approx(0.5 * 2, abs=1e-4)
    assert redundancy_loss(z, -z, 0.5).item() == pytest.approx(4 + 4 + 0.5 * 2, abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 6), seed=st.integers(0, 10_000), lambda_=st.floats(0.0, 1.0))
def test_agrees_with_the_slow_reference(count: int, seed: int, lambda_: float) -> None:
    z1, z2 = torch.randn(2, count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    assert redundancy_loss(z1, z2, lambda_).item() == pytest.approx(reference(z1, z2, lambda_), abs=1e-9)


def test_gradients_are_those_of_finite_differences() -> None:
    z = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(redundancy_loss, tuple(each.clone().requires_grad_() for each in z))


def test_scale_and_offset_of_a_coordinate_do_not_matter() -> None:
    z1, z2 = torch.randn(2, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    moved = 5 * z1 + torch.tensor([1.0, -2.0, 3.0])
    assert redundancy_loss(moved, z2).item() == pytest.approx(redundancy_loss(z1, z2).item(), abs=1e-3)
