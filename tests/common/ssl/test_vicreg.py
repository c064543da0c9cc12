"""VICReg: its three terms by hand, and against a slow readable reference."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prostafed.common.ssl.vicreg import covariance, invariance, variance, vicreg_loss


def reference(z1: torch.Tensor, z2: torch.Tensor, lambda_: float, mu: float, nu: float) -> float:
    count, length = z1.shape

    def spread(z: torch.Tensor, i: int, j: int) -> float:
        means = [sum(float(z[n, k]) for n in range(count)) / count for k in (i, j)]
        return sum((float(z[n, i]) - means[0]) * (float(z[n, j]) - means[1]) for n in range(count)) / (count - 1)

    s = sum(float(z1[n, k] - z2[n, k]) ** 2 for n in range(count) for k in range(length)) / (count * length)
    v, c = 0.0, 0.0
    for z in (z1, z2):
        v += sum(max(0.0, 1 - math.sqrt(spread(z, k, k) + 1e-4)) for k in range(length)) / length
        c += sum(spread(z, i, j) ** 2 for i in range(length) for j in range(length) if i != j) / length
    return lambda_ * s + mu * v / 2 + nu * c


def test_terms_by_hand() -> None:
    flat = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)  # variances 2 and 0
    assert invariance(flat, -flat).item() == 2
    assert variance(flat).item() == pytest.approx((0 + 0.99) / 2)
    assert covariance(flat).item() == 0
    tied = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)  # covariance 2, twice, over two coordinates
    assert covariance(tied).item() == pytest.approx(4)
    assert vicreg_loss(flat, -flat).item() == pytest.approx(25 * 2 + 25 * 0.495)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(2, 6), seed=st.integers(0, 10_000), size=st.floats(0.1, 2.0))
def test_agrees_with_the_slow_reference(count: int, seed: int, size: float) -> None:
    z1, z2 = size * torch.randn(2, count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    assert vicreg_loss(z1, z2, (3.0, 2.0, 0.5)).item() == pytest.approx(reference(z1, z2, 3.0, 2.0, 0.5), abs=1e-9)


def test_gradients_are_those_of_finite_differences() -> None:
    z = 0.5 * torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(vicreg_loss, tuple(each.clone().requires_grad_() for each in z))


def test_projections_that_collapsed_have_a_finite_gradient() -> None:
    z = torch.ones(3, 4, requires_grad=True)
    loss = vicreg_loss(z, z)
    loss.backward()
    assert torch.isfinite(z.grad).all()  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(25 * 0.99)


def test_with_one_case_only_invariance_is_left() -> None:
    z1, z2 = torch.ones(1, 4), torch.zeros(1, 4)
    assert vicreg_loss(z1, z2).item() == 25
