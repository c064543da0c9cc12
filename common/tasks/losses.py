"""Losses that tasks have in common: one value per case, which depends on that case alone."""

from torch import Tensor


def soft_dice_loss(probability: Tensor, target: Tensor, smooth: Tensor | float = 1.0) -> Tensor:
    """Return 1 - soft Dice of each case, (batch,): 1 - (2 sum p t + s) / (sum p + sum t + s), sums over its voxels.

    `probability` and `target` (batch, ...) of one shape, in [0, 1]; `smooth`, s > 0, one or one per case, in voxels.
    Milletari et al. 2016 square in the denominator, which we do not; s makes an empty answer to an empty case perfect.
    Sums over a whole batch would make the loss, and what it teaches, hang on which cases share a batch, a part of it or
    a process: no sum over parts would give it back.
    """
    p, t = probability.flatten(start_dim=1), target.flatten(start_dim=1)
    return 1 - (2 * (p * t).sum(dim=1) + smooth) / (p.sum(dim=1) + t.sum(dim=1) + smooth)
