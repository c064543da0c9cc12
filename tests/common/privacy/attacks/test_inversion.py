"""Images and labels from updates: they come out of a bare one, and not of one with noise."""

import numpy as np
import pytest
import torch
from torch import nn

from prostafed.common.privacy.attacks.inversion import build_small, compare_images, invert, measure_gradient
from prostafed.common.privacy.attacks.protections import NOTHING, Protection, protect

SHAPE = (2, 4, 8, 8)


def make_image(seed: int) -> "np.typing.NDArray[np.float32]":
    """A smooth image with a bright spot."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE[1:]), indexing="ij")
    generator = np.random.default_rng(seed)
    planes = []
    for _ in range(SHAPE[0]):
        middle = generator.uniform(-0.7, 0.7, 3)
        planes.append(np.exp(-3 * ((z - middle[0]) ** 2 + (y - middle[1]) ** 2 + (x - middle[2]) ** 2)))
    image = np.stack(planes)
    image = (image - image.mean(axis=(1, 2, 3), keepdims=True)) / image.std(axis=(1, 2, 3), keepdims=True)
    return image.astype(np.float32)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return build_small(SHAPE, seed=0)


def reconstruct(network: nn.Module, protection: Protection) -> float:
    image = make_image(1)
    seen = protect([measure_gradient(network, image[None], [1.0])], protection, seed=2)
    return compare_images(image, invert(network, seen, [1.0], SHAPE, seed=3, steps=150)[0])[0]


def test_a_bare_update_gives_its_image_away(network: nn.Module) -> None:
    assert reconstruct(network, NOTHING) > 0.9


def test_half_precision_hides_nothing(network: nn.Module) -> None:
    assert reconstruct(network, Protection("float16", half=True)) > 0.9


def test_noise_hides_it(network: nn.Module) -> None:
    assert abs(reconstruct(network, Protection("noise", clip=1.0, noise=1.0))) < 0.3


def test_the_last_bias_gives_a_single_label_away_and_noise_hides_it(network: nn.Module) -> None:
    def guess(label: float, protection: Protection, seed: int) -> bool:
        seen = protect([measure_gradient(network, make_image(seed)[None], [label])], protection, seed)
        return bool(seen[-1] < 0)

    assert all(guess(label, NOTHING, seed) == bool(label) for seed in range(5) for label in (0.0, 1.0))
    loud = Protection("noise", clip=1.0, noise=3.0)
    right = sum(guess(label, loud, seed) == bool(label) for seed in range(50) for label in (0.0, 1.0))
    assert 30 <= right <= 70


def test_the_gradient_is_that_of_torch(network: nn.Module) -> None:
    images, labels = np.stack([make_image(1), make_image(2)]), [0.0, 1.0]
    network.zero_grad()
    logits = network(torch.from_numpy(images))
    torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(labels)).backward()
    expected = torch.cat([each.grad.reshape(-1) for each in network.parameters() if each.grad is not None])
    assert measure_gradient(network, images, labels) == pytest.approx(expected.numpy(), abs=1e-6)


def test_building_and_inverting_leave_the_global_randomness_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    network = build_small(SHAPE, seed=0)
    invert(network, measure_gradient(network, make_image(1)[None], [1.0]), [1.0], SHAPE, seed=0, steps=2)
    assert torch.equal(torch.rand(3), expected)


def test_protections_by_hand() -> None:
    long, short = np.array([3.0, 4.0]), np.array([0.3, 0.4])
    assert protect([long], NOTHING, 0) == pytest.approx(long)
    assert protect([long, short], NOTHING, 0) == pytest.approx([1.65, 2.2])
    assert protect([long], Protection("", clip=1.0), 0) == pytest.approx([0.6, 0.8])
    assert protect([short], Protection("", clip=1.0), 0) == pytest.approx(short)
    assert protect([np.array([1.0001])], Protection("", half=True), 0) == pytest.approx([1.0])
    noise = protect([np.zeros(20_000)], Protection("", clip=2.0, noise=0.5), 0)
    assert noise.std() == pytest.approx(1.0, rel=0.03)


def test_likeness_by_hand() -> None:
    image = make_image(1)
    same, decibels = compare_images(image, 3 * image + 2)
    assert same == pytest.approx(1)
    assert decibels > 60
    assert compare_images(image, -image)[0] == pytest.approx(-1)
    assert compare_images(image, np.zeros_like(image)) == (
        0.0,
        pytest.approx(10 * np.log10(np.ptp(image) ** 2), abs=0.1),
    )
