"""How far an encoder moved in a round: FedU and FedEMA steer by it."""

import numpy as np

from prostafed.common.tensors import Tensors, group_of


def measure_drift(begun: Tensors, ended: Tensors) -> float:
    """Return D, the mean over the encoder's convolutions of the L2 distance between their weights before and after.

    As the authors' code computes it (FedSSLClient of EasyFL: parameters with "conv" and "weight" in their names, the
    mean of torch.dist); convolutions are told here by their number of axes. 0 where none travels.
    """
    kernels = [name for name, array in begun.items() if group_of(name) == "encoder" and array.ndim >= 4]
    distances = [float(np.linalg.norm((ended[name] - begun[name]).astype(np.float64).ravel())) for name in kernels]
    return sum(distances) / len(distances) if distances else 0.0
