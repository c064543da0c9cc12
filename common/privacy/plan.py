"""One plan for noise: what samples, clips and adds noise takes it, and so does what computes epsilon from it.

So no epsilon is computed for something else than what runs. The idea is jax_privacy's (Google DeepMind).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

Unit = Literal["patient", "site"]


@dataclass(frozen=True)
class NoisePlan:
    """A Gaussian mechanism that takes some steps over some units.

    unit        whose data is hidden: all studies of a patient, or all that a site has
    units       how many of them there are: public, as is everything in a plan
    rate        q in (0, 1]: each unit is in a step with this probability, by itself (Poisson sampling)
    steps       of the mechanism
    clip        C, the largest Euclidean norm of what a unit adds to a step
    noise       sigma, the noise multiplier: the noise has standard deviation sigma C in every coordinate
    delta       the probability that epsilon does not hold
    neighbours  two data sets are neighbours if one has nothing in the place of one unit of the other, their number
                unchanged ("zero-out"; Ponomareva et al. 2023, section 2.1). What a unit adds is then C at most, and the
                accounting that of adding or removing a unit
    """

    unit: Unit
    units: int
    rate: float
    steps: int
    clip: float
    noise: float
    delta: float
    neighbours: Literal["zero-out"] = "zero-out"
    sampling: Literal["poisson"] = "poisson"
    accountant: Literal["prv"] = "prv"

    def __post_init__(self) -> None:
        """Raise ValueError for what is no plan."""
        sound = self.units >= 1 and 0 < self.rate <= 1 and self.steps >= 1 and 0 < self.delta < 1
        if not (sound and 0 < self.clip < math.inf and 0 <= self.noise < math.inf):
            raise ValueError(f"Expected units and steps from 1, rate in (0, 1], clip above 0, found {self}.")
        if (self.neighbours, self.sampling, self.accountant) != ("zero-out", "poisson", "prv"):
            raise ValueError(f"Expected zero-out neighbours, Poisson sampling and the accountant prv, found {self}.")

    @property
    def expected(self) -> float:
        """Units in a step, on average: what a sum over them is divided by."""
        return self.rate * self.units


def plan_patients(patients: int, batch_size: int, epochs: int, noise: tuple[float, float, float]) -> NoisePlan:
    """Return the plan of a round of DP-SGD over `patients`: `batch_size` of them a step on average, and as many steps
    as `epochs` passes over all have. `noise` is its multiplier, clip and delta.
    """
    rate = min(1.0, batch_size / patients)
    multiplier, clip, delta = noise
    return NoisePlan("patient", patients, rate, max(1, round(epochs / rate)), clip, multiplier, delta)


def plan_site(noise: tuple[float, float, float]) -> NoisePlan:
    """Return the plan of a round whose update, as a whole, gets noise; `noise` is its multiplier, clip and delta."""
    multiplier, clip, delta = noise
    return NoisePlan("site", 1, 1.0, 1, clip, multiplier, delta)


def repeat(plan: NoisePlan, rounds: int) -> NoisePlan:
    """Return the plan of `rounds` rounds."""
    return replace(plan, steps=plan.steps * rounds)


def write_plan(plan: NoisePlan) -> dict[str, Any]:
    """Return a plan as JSON takes it."""
    return asdict(plan)


def read_plan(written: Mapping[str, Any]) -> NoisePlan:
    """Return the plan that `write_plan` wrote; raises ValueError for anything else."""
    if set(written) != {field.name for field in fields(NoisePlan)}:
        raise ValueError(f"Expected a plan for noise, found the keys {sorted(written)}.")
    return NoisePlan(**written)
