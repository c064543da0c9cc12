"""NT-Xent: by hand, and against a slow readable reference."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from prostafed.common.ssl.simclr import nt_xent

AXES = torch.eye(2, dtype=torch.float64)


def reference(z1: torch.Tensor, z2: torch.Tensor, tau: float) -> float:
    views, count = [*z1, *z2], len(z1)
    total = 0.0
    for i in range(2 * count):
        likeness = [math.exp(float(views[i] @ views[j]) / tau) if j != i else 0.0 for j in range(2 * count)]
        total -= math.log(likeness[(i + count) % (2 * count)] / sum(likeness))
    return total / (2 * count)


def test_by_hand() -> None:
    assert nt_xent(AXES, AXES, 1.0).item() == pytest.approx(math.log(math.e + 2) - 1)
    assert nt_xent(AXES, AXES.flip(0), 1.0).item() == pytest.approx(
        math.log(math.e + 2)
    )  # each beside the other's view
    assert nt_xent(AXES[:1], AXES[1:], 0.1).item() == 0.0


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 6), seed=st.integers(0, 10_000), tau=st.floats(0.1, 2.0))
def test_agrees_with_the_slow_reference(count: int, seed: int, tau: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    z1, z2 = (normalize(torch.randn(count, 5, generator=generator, dtype=torch.float64)) for _ in range(2))
    assert nt_xent(z1, z2, tau).item() == pytest.approx(reference(z1, z2, tau), abs=1e-9)


def test_gradients_are_those_of_finite_differences() -> None:
    z = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inputs = tuple(normalize(each).requires_grad_() for each in z)
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.5), inputs)


def test_a_low_temperature_does_not_overflow() -> None:
    z1, z2 = normalize(torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(2)), dim=2).requires_grad_()
    loss = nt_xent(z1, z2, 0.005)
    (gradient,) = torch.autograd.grad(loss, z1)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
