"""Noise on a site's whole update: clipped to a norm, then noised in every value."""

import math

import numpy as np

from prostafed.common.privacy.noise import Source, draw_gaussian
from prostafed.common.privacy.plan import NoisePlan
from prostafed.common.tensors import Tensors


def add_noise(update: Tensors, sent: Tensors, plan: NoisePlan, source: Source) -> Tensors:
    """Return `sent` with what `update` changed of it, clipped to the plan's C over all floating tensors together, and
    noise of standard deviation sigma C.

    A change that is not finite counts as none. Tensors that are not floating leave as they came: nothing can be told
    from them.
    """
    assert plan.unit == "site"
    floating = [name for name in sorted(update) if np.issubdtype(update[name].dtype, np.floating)]
    changes = {name: update[name].astype(np.float64) - sent[name] for name in floating}
    norm = math.sqrt(sum(float(np.square(change).sum()) for change in changes.values()))
    share = min(1.0, plan.clip / norm) if norm and math.isfinite(norm) else float(norm == 0)
    noised = dict(sent)
    for name in floating:
        clipped = changes[name] * share if share else np.zeros_like(changes[name])
        noise = draw_gaussian(source, *sent[name].shape) * (plan.noise * plan.clip)
        noised[name] = (sent[name] + clipped + noise).astype(update[name].dtype)
    return {name: noised[name] for name in update}
