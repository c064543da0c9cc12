"""A self-supervised method of your own: the spectral contrastive loss of HaoChen et al. (2021), in a federation.

Run it: python examples/own_method.py. The images are generated: the numbers say nothing about patients.
"""

from federation import HOSPITALS, STUDY
from torch import Tensor

from prostafed.common.ssl import METHODS, MethodEntry
from prostafed.common.ssl.method import Method
from prostafed.common.ssl.methods import PairParameters
from prostafed.common.ssl.pairs import pair_method
from prostafed.simulations import simulate


def spectral_loss(z1: Tensor, z2: Tensor) -> Tensor:
    """Return -2 mean_i z1_i.z2_i + mean_{i != j} (z1_i.z2_j)^2 of unit projections (batch, length)."""
    alike, pairs = z1 @ z2.T, max(len(z1) * (len(z1) - 1), 1)
    return (alike.square().sum() - alike.diagonal().square().sum()) / pairs - 2 * alike.diagonal().mean()


def build(parameters: PairParameters) -> Method:
    """Return the method: two augmented views, a projection head, the loss."""
    return pair_method(parameters.projection_size, lambda z1, z2, records: spectral_loss(z1, z2))


METHODS["spectral"] = MethodEntry(__name__, PairParameters, shared=("encoder", "projection"))
if __name__ == "__main__":
    stages = [{"kind": "pretrain", "method": "spectral", "rounds": 2}, *STUDY["stage"][1:]]
    print(f"Report: {simulate(STUDY | {'stage': stages, 'arms': {}}, {'site': HOSPITALS}, 'runs/own_method').report}")
