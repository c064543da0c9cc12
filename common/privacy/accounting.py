"""Epsilon of plans, and the noise that keeps to an epsilon: the PRV accountant of Opacus (Gopi, Lee, Wutschitz 2021).

Opacus loads torch, so it is imported where it is used. `tests/common/privacy/golden_epsilon.json` holds what another
accountant, dp-accounting's, says.
"""

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from prostafed.common.errors import ConfigurationError
from prostafed.common.privacy.plan import NoisePlan, Unit

# (noise multiplier, sampling rate, steps) of one mechanism
_Mechanism = tuple[float, float, int]
_CLOSE = 0.003  # of epsilon, which its upper bound may lie above
_LEAST_NOISE, _MOST_NOISE = 0.05, 1e4
_DIGITS = 1e-3  # noise multipliers are rounded up to it, so that all machines find the same


def account(plans: Sequence[NoisePlan], delta: float, whose: Unit = "patient") -> float:
    """Return the epsilon that `plans` cost together at `delta`, from above: 0 for none, infinite without noise.

    `whose` names the unit that epsilon is asked for. Noise on a site's whole update hides a patient, too, but two
    updates with and without the patient can lie 2 C apart: it counts with half its multiplier. Noise for patients hides
    no site: infinite.
    """
    if any(plan.unit == "patient" for plan in plans) and whose == "site":
        return math.inf
    halved = {"patient": 1.0, "site": 0.5 if whose == "patient" else 1.0}
    steps = Counter[tuple[float, float]]()
    for plan in plans:
        steps[(plan.noise * halved[plan.unit], plan.rate)] += plan.steps
    return _compose(tuple(sorted((noise, rate, count) for (noise, rate), count in steps.items())), delta)


def solve_noise(plans: Sequence[NoisePlan], epsilon: float, delta: float) -> float:
    """Return the least noise multiplier with which `plans`, all of one unit, cost `epsilon` at most together; what
    multiplier they name does not count. Raises ConfigurationError where no noise is enough.
    """
    assert plans, "noise is solved for something"
    steps = Counter[float]()
    for plan in plans:
        steps[plan.rate] += plan.steps
    return _solve(tuple(sorted(steps.items())), epsilon, delta)


def with_noise(plan: NoisePlan, multiplier: float) -> NoisePlan:
    """Return a plan with another noise multiplier."""
    return replace(plan, noise=multiplier)


@lru_cache(maxsize=256)
def _solve(steps: tuple[tuple[float, int], ...], epsilon: float, delta: float) -> float:
    def cost(multiplier: float) -> float:
        return _compose(tuple(sorted((multiplier, rate, count) for rate, count in steps)), delta)

    low, high = _LEAST_NOISE, 1.0
    while cost(high) > epsilon:
        low, high = high, 2 * high
        if high > _MOST_NOISE:
            raise ConfigurationError(
                f"No noise keeps epsilon = {epsilon:g} at delta = {delta:g} over {sum(count for _, count in steps)} "
                "steps. Raise epsilon in [privacy] of the study file, or lower the rounds of its stages."
            )
    while high - low > max(_DIGITS, 2 * _DIGITS * high):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) > epsilon else (low, middle)
    return round(math.ceil(high / _DIGITS) * _DIGITS, 3)


@lru_cache(maxsize=4096)
def _compose(mechanisms: tuple[_Mechanism, ...], delta: float) -> float:
    """Return epsilon of mechanisms one after the other."""
    if not mechanisms:
        return 0.0
    if min(noise for noise, _, _ in mechanisms) <= 0:
        return math.inf
    # Without sampling, steps are one Gaussian mechanism with the precision of all: exactly.
    precision = sum(count / noise**2 for noise, rate, count in mechanisms if rate == 1)
    sampled = [each for each in mechanisms if each[1] < 1]
    if not sampled:
        return _of_gaussian(precision**-0.5, delta)
    return _of_sampled([*sampled, *([(precision**-0.5, 1.0, 1)] if precision else [])], delta)


def _of_sampled(history: list[_Mechanism], delta: float) -> float:
    """Return epsilon by the PRV accountant, whose error is at most _CLOSE; where its grid does not do, by Renyi
    divergences, which give more.
    """
    from opacus.accountants import PRVAccountant, RDPAccountant

    accountant, coarse = PRVAccountant(), 0.01
    accountant.history = history
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a logarithm of zero where nothing is sampled
            found = float(accountant.get_epsilon(delta, eps_error=coarse))
            while coarse > max(_CLOSE * found, 1e-4):
                coarse = max(_CLOSE * (found - 0.9 * coarse), 1e-4) / 2
                found = float(accountant.get_epsilon(delta, eps_error=coarse))
        if math.isfinite(found):
            return found
    except (RuntimeError, ValueError, MemoryError):
        pass
    bound = RDPAccountant()
    bound.history = history
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that another order might give less
        return float(bound.get_epsilon(delta))


def _of_gaussian(multiplier: float, delta: float) -> float:
    """Return epsilon of the Gaussian mechanism: the root of its delta (Balle and Wang 2018, theorem 8)."""
    from scipy.optimize import brentq
    from scipy.special import log_ndtr

    def excess(epsilon: float) -> float:
        near, far = 0.5 / multiplier - epsilon * multiplier, -0.5 / multiplier - epsilon * multiplier
        return float(math.exp(log_ndtr(near)) - math.exp(epsilon + log_ndtr(far))) - delta

    if excess(0.0) <= 0:
        return 0.0
    most = 1.0
    while excess(most) > 0:
        most *= 2
    return float(brentq(excess, 0.0, most, xtol=1e-6))
