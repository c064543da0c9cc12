"""A generated patient: what the marksheet says (PI-RADS, ISUP, age, PSA, volume), and the lesions its images hold."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from prostafed.simulations.phantom.centers import CENTERS, ISUP_OF_CSPCA, LOG_LESION_ML, Center

Generator = np.random.Generator

PZ_SHARE = 0.65  # of lesions in the peripheral zone; ours: between 9 of 17 PI-CAI masks looked at and the textbook 70 %
CONSPICUITY = {1: 0.22, 2: 0.22, 3: 0.42, 4: 0.56, 5: 0.66}  # by PI-RADS, mean; ours: what they lead to is in LAB.md
CONSPICUITY_DEVIATION = 0.13
CONSPICUITY_OF_CANCER = {0: 0.0, 1: 0.03, 2: 0.10, 3: 0.13, 4: 0.17, 5: 0.17}  # added, by ISUP


@dataclass(frozen=True)
class PhantomLesion:
    """One lesion; ISUP 0 is benign, `conspicuity` in [0, 1] is how far it stands out of the tissue around."""

    pirads: int
    isup: int
    zone: str  # "PZ" or "TZ"
    volume_ml: float
    conspicuity: float


@dataclass(frozen=True)
class Patient:
    """One study's patient. `suspicion` is the standard normal value whose bin at the centre is `pirads`."""

    center: str
    pirads: int
    suspicion: float
    isup: int
    age: float
    psa: float
    gland_ml: float
    tz_fraction: float
    reported_ml: float
    findings: tuple[PhantomLesion, ...]

    @property
    def cspca(self) -> bool:
        """Clinically significant cancer, ISUP >= 2."""
        return self.isup >= 2


def get_center(name: str) -> Center:
    """Return the rates of a centre; raises ValueError that lists the centres."""
    if name not in CENTERS:
        raise ValueError(f"Unknown centre '{name}'. Valid: {', '.join(CENTERS)}.")
    return CENTERS[name]


def pirads_thresholds(center: Center) -> tuple[float, ...]:
    """Return the four cuts of a standard normal value that give PI-RADS 1..5 at the centre's rates."""
    reached = np.cumsum(center.pirads_rates)[:4]
    return tuple(NormalDist().inv_cdf(float(share)) for share in reached)


def draw_patient(name: str, rng: Generator) -> Patient:
    """Return a patient of centre `name`: PI-RADS, csPCa and ISUP at that PI-RADS, then the rest, all at its rates."""
    center = get_center(name)
    rank = rng.uniform(1e-6, 1 - 1e-6)
    suspicion = NormalDist().inv_cdf(rank)
    pirads = 1 + sum(suspicion > cut for cut in pirads_thresholds(center))
    isup = _draw_isup(center, pirads, rng)
    group = center.with_cspca if isup >= 2 else center.without
    log_gland = float(np.clip(rng.normal(*group.log_gland_ml), np.log(15), np.log(250)))
    slope, intercept, residual = center.tz_on_log_gland
    psa_slope, psa_intercept, psa_residual = group.log_psa_on_log_gland
    return Patient(
        center=name,
        pirads=pirads,
        suspicion=suspicion,
        isup=isup,
        age=float(np.clip(np.round(rng.normal(*group.age_years)), 35, 92)),
        psa=float(
            np.clip(np.round(np.exp(rng.normal(psa_slope * log_gland + psa_intercept, psa_residual)), 1), 0.1, 500)
        ),
        gland_ml=float(np.exp(log_gland)),
        tz_fraction=float(np.clip(rng.normal(slope * log_gland + intercept, residual), 0.25, 0.88)),
        reported_ml=float(np.round(np.exp(log_gland + rng.normal(*center.reported_on_gland)), 1)),
        findings=_draw_lesions(center, pirads, isup, float(np.exp(log_gland)), rng),
    )


def _draw_isup(center: Center, pirads: int, rng: Generator) -> int:
    row = max(pirads - 2, 0)
    studies = (sum(center.pirads[:2]), *center.pirads[2:])[row]
    drawn = rng.uniform() * studies
    if drawn < center.cspca[row]:
        counts = np.array(ISUP_OF_CSPCA[pirads == 5], dtype=float)
        return 2 + int(rng.choice(4, p=counts / counts.sum()))
    return 1 if drawn < center.cspca[row] + center.isup1[row] else 0


def _draw_lesions(center: Center, pirads: int, isup: int, gland_ml: float, rng: Generator) -> tuple[PhantomLesion, ...]:
    """The index lesion carries the case's PI-RADS and ISUP; further ones at most as much. Missed cancers are faint."""
    if pirads < 3 and isup == 0:
        return ()
    findings = [_draw_finding(pirads, isup, gland_ml, rng)]
    if pirads >= 3 and rng.uniform() < center.several_lesions:
        for _ in range(1 + (rng.uniform() < 0.15)):  # three or more: 25 of 182 such studies
            other_isup = isup if rng.uniform() < 0.3 else 0
            findings.append(_draw_finding(int(rng.integers(3, pirads + 1)), other_isup, gland_ml, rng))
    return tuple(findings)


def _draw_finding(pirads: int, isup: int, gland_ml: float, rng: Generator) -> PhantomLesion:
    mean, deviation = LOG_LESION_ML[max(pirads - 3, 0)]
    volume = np.exp(mean + deviation * np.clip(rng.normal(), -1.6, 1.6))
    conspicuity = rng.normal(CONSPICUITY[pirads] + CONSPICUITY_OF_CANCER[isup], CONSPICUITY_DEVIATION)
    return PhantomLesion(
        pirads=pirads,
        isup=isup,
        zone="PZ" if rng.uniform() < PZ_SHARE else "TZ",
        volume_ml=float(np.clip(volume, 0.08, 0.25 * gland_ml)),
        conspicuity=float(np.clip(conspicuity, 0.1, 0.95)),
    )
