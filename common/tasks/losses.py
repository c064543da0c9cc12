"""Losses that tasks have in common."""

from torch import Tensor


def soft_dice_loss(probability: Tensor, target: Tensor) -> Tensor:
    """Return 1 - soft Dice over the whole batch, so that cases without the structure count only through false
    positives.

    `probability` and `target` of one shape, in [0, 1]. (2 sum p t + 1) / (sum p + sum t + 1): Milletari et al. 2016
    square in the denominator, which we do not; the 1 makes an empty batch with an empty answer perfect.
    """
    overlap = 2 * (probability * target).sum() + 1
    return 1 - overlap / (probability.sum() + target.sum() + 1)
