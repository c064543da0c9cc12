"""The lower bound of epsilon: exact cases, mechanisms whose epsilon is known, and broken ones."""

import math

import numpy as np
import pytest

from prostafed.common.privacy.accounting import account
from prostafed.common.privacy.audit import audit, bound_epsilon, probability
from prostafed.common.privacy.plan import NoisePlan


def run_mechanism(plan: NoisePlan, canaries: int, seed: int, broken: float = 1.0) -> tuple[list[bool], list[float]]:
    """Return lots and scores of a run: each step adds 1 for those sampled, and noise times `broken`."""
    draw = np.random.default_rng(seed)
    planted = draw.random(canaries) < 0.5
    hits = draw.binomial(plan.steps, plan.rate, canaries) * planted
    noise = draw.normal(size=canaries) * plan.noise * broken * math.sqrt(plan.steps)
    return planted.tolist(), (hits + noise).tolist()


@pytest.mark.parametrize("guesses", [10, 100, 1000])
def test_without_delta_and_all_right_it_is_exact(guesses: int) -> None:
    """(e^eps / (1 + e^eps))^r = p."""
    right = 0.05 ** (1 / guesses)
    assert bound_epsilon(guesses, guesses, guesses, 0.0, 0.05) == pytest.approx(math.log(right / (1 - right)), rel=1e-6)


def test_the_probability_is_that_of_the_binomial_by_hand() -> None:
    """Of two guesses with epsilon 0: both right 1/4, one or more 3/4; delta adds 2 m delta max_i P[v - i ..] / i."""
    assert probability(2, 2, 2, (0.0, 0.0)) == pytest.approx(0.25)
    assert probability(2, 2, 1, (0.0, 0.0)) == pytest.approx(0.75)
    assert probability(2, 2, 2, (0.0, 0.01)) == pytest.approx(0.25 + 2 * 2 * 0.01 * 0.5)
    assert probability(2, 2, 0, (0.0, 0.01)) == 1.0


def test_half_of_the_guesses_right_tell_nothing() -> None:
    assert bound_epsilon(1000, 1000, 500, 1e-5, 0.05) == 0.0
    assert audit([], [], 1e-5) == 0.0


@pytest.mark.parametrize(("rate", "noise", "steps"), [(1.0, 2.0, 1), (0.1, 1.0, 100), (0.5, 4.0, 40)])
def test_noise_as_planned_is_hardly_ever_found_to_be_less(rate: float, noise: float, steps: int) -> None:
    plan = NoisePlan("patient", 100, rate, steps, 1.0, noise, 1e-5)
    accounted = account([plan], 1e-5)
    found = [audit(*run_mechanism(plan, 500, seed), 1e-5) for seed in range(100)]
    assert sum(each <= accounted for each in found) >= 95
    assert max(found) > 0, "it is no bound that never says anything"


def test_noise_scaled_by_nothing_is_caught() -> None:
    plan = NoisePlan("patient", 100, 0.2, 50, 1.0, 2.0, 1e-5)
    accounted = account([plan], 1e-5)
    assert audit(*run_mechanism(plan, 1000, 0, broken=0.0), 1e-5) > accounted
    assert audit(*run_mechanism(plan, 1000, 0), 1e-5) <= accounted
