"""How alike the sites' updates are, and how much each one moves the mean: from a sample of coordinates, so that no
update has to be kept.

Each update leaves the values of the same few coordinates, drawn from the study's seed, every tensor in proportion to
its size. The cosine of two updates over n of them has a standard error of about 1 / sqrt(n) where values are of one
size; where few coordinates carry most of an update, more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from prostafed.common.seeding import derive_seed
from prostafed.common.tensors import Tensors

COORDINATES = 1 << 15


@dataclass(frozen=True)
class Likeness:
    """A round's updates compared; both need two sites or more."""

    cosines: dict[str, dict[str, float]]  # site -> other site -> cosine of their updates, -1 to 1
    influence: dict[str, float]  # site -> distance of the mean with it to that without, over the length of the mean


def sample_update(tensors: Tensors, sent: Tensors, seed: int) -> npt.NDArray[np.float64]:
    """Return the update tensors - sent at the sampled coordinates, (at most about COORDINATES,)."""
    layout = tuple((name, sent[name].size) for name in sorted(sent) if np.issubdtype(sent[name].dtype, np.floating))
    parts = [
        tensors[name].reshape(-1)[places].astype(np.float64) - sent[name].reshape(-1)[places]
        for name, places in _draw_places(layout, seed)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


@lru_cache(maxsize=4)
def _draw_places(layout: tuple[tuple[str, int], ...], seed: int) -> tuple[tuple[str, npt.NDArray[Any]], ...]:
    total = sum(size for _, size in layout)
    drawn = []
    for name, size in layout:
        count = min(size, max(1, round(COORDINATES * size / total)))
        generator = np.random.default_rng(derive_seed(seed, "sample", name))
        drawn.append((name, np.sort(generator.choice(size, count, replace=False))))
    return tuple(drawn)


def compare_updates(samples: Mapping[str, npt.NDArray[np.float64]], cases: Mapping[str, int]) -> Likeness:
    """Return how alike the sampled updates are; `cases` weight the mean."""
    sites = sorted(samples)
    if len(sites) < 2:
        return Likeness({}, {})
    norms = {site: float(np.linalg.norm(samples[site])) for site in sites}
    cosines = {
        first: {
            second: round(float(samples[first] @ samples[second]) / (norms[first] * norms[second]), 4)
            for second in sites
            if second != first and norms[first] and norms[second]
        }
        for first in sites
    }
    total = sum(cases[site] for site in sites)
    mean = sum(samples[site] * (cases[site] / total) for site in sites)
    length = float(np.linalg.norm(mean))
    influence = {}
    for site in sites:
        others = total - cases[site]
        without = (mean - samples[site] * (cases[site] / total)) * (total / others)
        influence[site] = round(float(np.linalg.norm(mean - without)) / length, 4) if length else 0.0
    return Likeness(cosines, influence)
