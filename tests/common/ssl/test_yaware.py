"""y-aware InfoNCE: by hand, against a slow readable reference, and its limits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from prostafed.common.ssl.kernels import rbf_kernel
from prostafed.common.ssl.simclr import nt_xent
from prostafed.common.ssl.yaware import yaware_infonce

AXES = torch.eye(2, dtype=torch.float64)


def reference(z1: torch.Tensor, z2: torch.Tensor, labels: list[float | None], sigma: float, tau: float) -> float:
    views, count = [*z1, *z2], len(z1)

    def weight(i: int, j: int) -> float:
        first, second = labels[i % count], labels[j % count]
        if i % count == j % count:
            return 1.0
        return 0.0 if first is None or second is None else math.exp(-((first - second) ** 2) / (2 * sigma**2))

    total = 0.0
    for i in range(2 * count):
        others = [j for j in range(2 * count) if j != i]
        everything = sum(math.exp(float(views[i] @ views[j]) / tau) for j in others)
        row = sum(weight(i, j) for j in others)
        for j in others:
            total -= weight(i, j) / row * math.log(math.exp(float(views[i] @ views[j]) / tau) / everything)
    return total / count


def test_by_hand() -> None:
    beside = math.log(math.e + 2)  # of each view: its own other view at 1, two at 0
    assert yaware_infonce(AXES, AXES, torch.zeros(2, 2), 1.0).item() == pytest.approx(2 * (beside - 1))
    assert yaware_infonce(AXES, AXES, torch.ones(2, 2), 1.0).item() == pytest.approx(2 * (beside - 1 / 3))


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 6), seed=st.integers(0, 10_000), tau=st.floats(0.1, 2.0))
def test_agrees_with_the_slow_reference(count: int, seed: int, tau: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    z1, z2 = (normalize(torch.randn(count, 5, generator=generator, dtype=torch.float64)) for _ in range(2))
    labels = [[None, 1.0, 2.5, 4.0][int(torch.randint(4, (1,), generator=generator))] for _ in range(count)]
    found = yaware_infonce(z1, z2, rbf_kernel(labels, 0.7), tau)
    assert found.item() == pytest.approx(reference(z1, z2, labels, 0.7, tau), abs=1e-9)


def test_gradients_are_those_of_finite_differences() -> None:
    z = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    kernel = rbf_kernel([1.0, 2.0, None, 4.0], 1.0)
    inputs = tuple(normalize(each).requires_grad_() for each in z)
    assert torch.autograd.gradcheck(lambda a, b: yaware_infonce(a, b, kernel, 0.5), inputs)


def test_without_labels_it_is_twice_nt_xent() -> None:
    z1, z2 = normalize(torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)), dim=2)
    assert torch.allclose(yaware_infonce(z1, z2, torch.zeros(5, 5), 0.1), 2 * nt_xent(z1, z2, 0.1))
