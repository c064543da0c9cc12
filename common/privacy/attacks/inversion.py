"""Images from an update: Geiping et al. 2020. Images are sought whose gradient points where the update does.

Minimises 1 - cosine + WEIGHT x total variation over the images, with Adam on the signs of the gradient, the learning
rate falling in three steps; labels and the weights before the step are known.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity

from prostafed.common.metrics.statistic import FloatArray

Images = npt.NDArray[np.float32]  # (case, sequence, z, y, x), mean 0 and standard deviation 1 per sequence
WEIGHT = 1e-3  # of total variation
RATE = 0.05
LARGEST = 4.0  # standard deviations; no voxel is sought beyond


def build_small(shape: Sequence[int], seed: int, channels: int = 16) -> nn.Module:
    """Return a network of two convolutions and one linear layer, images of `shape` (sequence, z, y, x) -> one logit.

    It is smooth and small: easier to invert than any network of a study.
    """
    sequences, *voxels = shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features = channels * int(np.prod([-(-size // 2) for size in voxels]))
        return nn.Sequential(
            nn.Conv3d(sequences, channels, 3, padding=1),
            nn.Softplus(),
            nn.Conv3d(channels, channels, 3, stride=2, padding=1),
            nn.Softplus(),
            nn.Flatten(),
            nn.Linear(features, 1),
            nn.Flatten(0),
        )


def measure_gradient(network: nn.Module, images: Images, labels: Sequence[float]) -> FloatArray:
    """Return the flat gradient of the mean cross-entropy of `images` (case, ...) with `labels` (case,)."""
    found = _flat_gradient(network, torch.from_numpy(images), torch.tensor(labels), create=False)
    return found.numpy(force=True).astype(np.float64)


def invert(
    network: nn.Module, seen: FloatArray, labels: Sequence[float], shape: Sequence[int], seed: int, steps: int
) -> Images:
    """Return one image of `shape` per label, whose mean gradient points where `seen` does."""
    target = torch.from_numpy(seen.astype(np.float32))
    generator = torch.Generator().manual_seed(seed)
    sought = torch.randn((len(labels), *shape), generator=generator).mul_(0.1).requires_grad_()
    optimiser = torch.optim.Adam([sought], lr=RATE)
    falling = torch.optim.lr_scheduler.MultiStepLR(optimiser, [steps * 3 // 8, steps * 5 // 8, steps * 7 // 8], 0.3)
    known = torch.tensor(labels)
    for _ in range(steps):
        optimiser.zero_grad()
        gradient = _flat_gradient(network, sought, known, create=True)
        loss = 1 - cosine_similarity(gradient, target, dim=0) + WEIGHT * _total_variation(sought)
        loss.backward()  # type: ignore[no-untyped-call]
        if sought.grad is not None:
            sought.grad.sign_()
        optimiser.step()
        falling.step()
        with torch.no_grad():
            sought.clamp_(-LARGEST, LARGEST)
    return sought.detach().numpy()


def compare_images(image: Images, other: Images) -> tuple[float, float]:
    """Return the correlation of two images over all voxels, and the peak signal-to-noise ratio in dB of `other`, at
    its best brightness and contrast, against the range of `image`.
    """
    truth, guess = image.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    truth, guess = truth - truth.mean(), guess - guess.mean()
    width = float(np.linalg.norm(truth) * np.linalg.norm(guess))
    correlation = float(truth @ guess) / width if width > 0 else 0.0
    left = float(np.mean(truth**2)) * (1 - correlation**2)
    peak = float(np.ptp(truth)) ** 2
    return correlation, 10 * float(np.log10(peak / max(left, peak * 1e-12))) if peak > 0 else 0.0


def _flat_gradient(network: nn.Module, images: Tensor, labels: Tensor, *, create: bool) -> Tensor:
    loss = binary_cross_entropy_with_logits(network(images), labels)
    parts = torch.autograd.grad(loss, list(network.parameters()), create_graph=create)
    return torch.cat([part.reshape(-1) for part in parts])


def _total_variation(images: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbours, over the three axes."""
    return torch.stack([images.diff(dim=axis).abs().mean() for axis in (2, 3, 4)]).sum()
