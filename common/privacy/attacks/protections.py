"""What an update goes through before anybody sees it, as far as an attack is concerned."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prostafed.common.metrics.statistic import FloatArray


@dataclass(frozen=True)
class Protection:
    """What is done to the gradient of a step."""

    name: str
    cases: int = 1  # of a batch, whose gradients are averaged
    sites: int = 1  # whose updates are added up before they are seen, as masks do
    clip: float = 0.0  # largest norm; 0: none
    noise: float = 0.0  # standard deviation, in units of clip
    half: bool = False  # sent as float16


NOTHING = Protection("none")
PROTECTIONS = (
    NOTHING,
    Protection("float16", half=True),
    Protection("batch of 8 cases", cases=8),
    Protection("sum of 4 sites, as with masks", sites=4),
    Protection("clip 1, noise 0.1", clip=1.0, noise=0.1),
    Protection("clip 1, noise 1", clip=1.0, noise=1.0),
)


def protect(gradients: Sequence[FloatArray], protection: Protection, seed: int) -> FloatArray:
    """Return what is seen of the sites' flat `gradients`: each clipped, with noise of its own, in float16 where it
    travels so, and their mean.
    """
    generator, seen = np.random.default_rng(seed), []
    for gradient in gradients:
        sent = np.asarray(gradient, dtype=np.float64)
        if protection.clip:
            sent = sent * min(1.0, protection.clip / max(float(np.linalg.norm(sent)), 1e-12))
            sent = sent + generator.normal(0.0, protection.clip * protection.noise, size=sent.shape)
        if protection.half:
            sent = sent.astype(np.float16).astype(np.float64)
        seen.append(sent)
    mean: FloatArray = np.mean(seen, axis=0)
    return mean
