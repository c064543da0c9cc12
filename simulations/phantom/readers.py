"""Readers: 1-7 PI-RADS scores per case whose agreement has a chosen Cohen's kappa. Needs no image.

PI-CAI holds one read per lesion, so several readers are always simulated, and called that.
"""

import math
from functools import lru_cache

import numpy as np

from prostafed.simulations.phantom.patient import Patient, get_center, pirads_thresholds
from prostafed.simulations.phantom.settings import Readers


def draw_reads(patient: Patient, readers: Readers, rng: np.random.Generator) -> tuple[int, ...]:
    """Return one PI-RADS score 1-5 per reader.

    Each reader sees the patient's suspicion s through noise of his own, r = sqrt(rho) s + sqrt(1 - rho) e with e
    standard normal, and cuts r where the centre's rates put the cuts: every reader keeps those rates, and errors fall
    on neighbouring scores. Two readers' r correlate by rho, chosen so that their kappa on PI-RADS >= 4 is
    `readers.kappa`. Reads are noisier than `patient.pirads` and follow csPCa less closely; at kappa 1 they equal it.
    """
    cuts = pirads_thresholds(get_center(patient.center))
    rho = latent_correlation(readers.kappa, cuts[2])
    seen = math.sqrt(rho) * patient.suspicion + math.sqrt(1 - rho) * rng.standard_normal(readers.count)
    return tuple(1 + sum(float(value) > cut for cut in cuts) for value in seen)


@lru_cache(maxsize=256)
def latent_correlation(kappa: float, cut: float) -> float:
    """Return the correlation of two standard normal values whose indicators above `cut` agree with Cohen's `kappa`.

    The inverse of kappa(rho) = (P(both above) - p^2) / (p - p^2), p = P(above), found by bisection.
    """
    if kappa >= 1:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _kappa_of(middle, cut) < kappa else (low, middle)
    return low


def _kappa_of(rho: float, cut: float) -> float:
    shared = np.linspace(-6, 6, 601)
    density = np.exp(-(shared**2) / 2)
    noise = math.sqrt(max(1 - rho, 1e-9))
    above = np.array([0.5 * math.erfc((cut - math.sqrt(rho) * value) / noise / math.sqrt(2)) for value in shared])
    p = np.average(above, weights=density)
    return float((np.average(above**2, weights=density) - p * p) / (p - p * p))
