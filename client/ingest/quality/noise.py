"""Signal-to-noise ratio of a volume as acquired, from the volume alone."""

import numpy as np
import numpy.typing as npt

_FROM_MAD = 1 / 0.6745  # standard deviation of a normal distribution over its median absolute deviation
_GAIN = 6.0  # of the mask below: the root of the sum of its squared weights


def estimate_snr(volume: npt.NDArray[np.float32]) -> float | None:
    """Return signal / noise of a volume (z, y, x) in its own voxels, before any resampling; None where it is flat.

    Both are measured in the middle (a third of the slices, half their width and height), where the prostate lies:
    parallel imaging spreads noise unevenly, so that the air around the patient says little. Signal: median of the
    positive voxels. Noise: second differences along both axes, with the mask [[1, -2, 1], [-2, 4, -2], [1, -2, 1]] of
    Immerkaer (Computer Vision and Image Understanding 1996); unlike there, by the median of their magnitude, on which
    edges weigh little. What a scanner has interpolated looks less noisy than it is: compare studies of one protocol.
    """
    slices, rows, columns = volume.shape
    middle = volume[
        slices // 3 : slices - slices // 3, rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4
    ].astype(np.float32)
    positive = middle[middle > 0]
    if min(middle.shape[1:]) < 3 or not positive.size:
        return None
    along = middle[:, 2:] - 2 * middle[:, 1:-1] + middle[:, :-2]
    both = along[:, :, 2:] - 2 * along[:, :, 1:-1] + along[:, :, :-2]
    noise = float(np.median(np.abs(both))) * _FROM_MAD / _GAIN
    return float(np.median(positive)) / noise if noise > 0 else None
