"""Decoupled uniformity with a prior kernel: by hand, and against a slow readable reference."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from prostafed.common.ssl.kernels import rbf_kernel
from prostafed.common.ssl.prior_uniformity import centroid_uniformity, estimate_centroids

AXES = torch.eye(2, dtype=torch.float64)


def reference(z1: torch.Tensor, z2: torch.Tensor, kernel: torch.Tensor, lambda_: float, scale: float) -> float:
    count = len(z1)
    prior = [[1.0 if i == j else float(kernel[i, j]) for j in range(count)] for i in range(count)]
    inverse = torch.linalg.inv(torch.tensor(prior, dtype=torch.float64) + lambda_ * torch.eye(count))
    centroids = []
    for i in range(count):
        smoothed = torch.zeros(z1.shape[1], dtype=torch.float64)
        for k in range(count):
            share = sum(float(inverse[i, j]) * prior[j][k] for j in range(count))
            smoothed += share * (z1[k] + z2[k]) / 2
        centroids.append(smoothed)
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    spread = [math.exp(-scale * float(((centroids[i] - centroids[j]) ** 2).sum())) for i, j in pairs]
    return math.log(sum(spread) / len(spread))


def test_by_hand() -> None:
    alone = estimate_centroids(AXES, AXES, torch.zeros(2, 2), regularisation=0.25)
    assert torch.allclose(alone, AXES / 1.25)
    assert centroid_uniformity(alone, scale=2.0).item() == pytest.approx(-2 * 2 / 1.25**2)
    alike = estimate_centroids(AXES, AXES, torch.ones(2, 2, dtype=torch.float64), regularisation=0.25)
    assert torch.allclose(alike, torch.full((2, 2), 1 / 2.25, dtype=torch.float64))
    assert centroid_uniformity(alike).item() == pytest.approx(0.0)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(2, 6), seed=st.integers(0, 10_000), lambda_=st.floats(0.01, 1.0))
def test_agrees_with_the_slow_reference(count: int, seed: int, lambda_: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    z1, z2 = (normalize(torch.randn(count, 5, generator=generator, dtype=torch.float64)) for _ in range(2))
    labels = [[None, 1.0, 2.5, 4.0][int(torch.randint(4, (1,), generator=generator))] for _ in range(count)]
    kernel = rbf_kernel(labels, 1.0)
    found = centroid_uniformity(estimate_centroids(z1, z2, kernel, lambda_), 2.0)
    assert found.item() == pytest.approx(reference(z1, z2, kernel, lambda_, 2.0), abs=1e-7)


def test_gradients_are_those_of_finite_differences() -> None:
    z = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    kernel = rbf_kernel([1.0, 2.0, None, 4.0], 1.0)
    inputs = tuple(normalize(each).requires_grad_() for each in z)
    assert torch.autograd.gradcheck(lambda a, b: centroid_uniformity(estimate_centroids(a, b, kernel, 0.1)), inputs)


def test_views_that_agree_can_be_spread_further_apart() -> None:
    apart = centroid_uniformity(estimate_centroids(AXES, AXES.flip(0), torch.zeros(2, 2)))
    agreeing = centroid_uniformity(estimate_centroids(AXES, AXES, torch.zeros(2, 2)))
    assert agreeing < apart


def test_the_kernel_that_was_given_is_left_as_it_is() -> None:
    kernel = torch.zeros(2, 2, dtype=torch.float64)
    estimate_centroids(AXES, AXES, kernel)
    assert not kernel.any()
