"""Epsilon against dp-accounting, and by hand."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prostafed.common.errors import ConfigurationError
from prostafed.common.privacy.accounting import account, solve_noise, with_noise
from prostafed.common.privacy.plan import NoisePlan, plan_patients, plan_site, read_plan, repeat, write_plan

GOLDEN = json.loads(Path(__file__).with_name("golden_epsilon.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("point", GOLDEN["points"], ids=lambda each: "-".join(str(value) for value in each.values()))
def test_epsilon_is_that_of_dp_accounting(point: dict[str, Any]) -> None:
    plan = plan_patients(point["patients"], point["batch_size"], point["epochs"], (point["noise"], 1.0, point["delta"]))
    assert account([plan], point["delta"]) == pytest.approx(point["epsilon"], rel=0.01)


@pytest.mark.parametrize("point", GOLDEN["composed"])
def test_epsilon_of_several_plans_is_that_of_dp_accounting(point: dict[str, Any]) -> None:
    plans = [NoisePlan("patient", 1000, rate, steps, 1.0, noise, 1e-5) for noise, rate, steps in point["mechanisms"]]
    found = account(plans, point["delta"])
    assert found == pytest.approx(point["epsilon"], rel=0.01)
    assert account(plans[::-1], point["delta"]) == found


def test_the_reference_of_the_project_is_met() -> None:
    found = [account([plan_patients(800, 64, 50, (sigma, 1.0, 1.25e-4))], 1.25e-4) for sigma in (1.0, 1.5, 2.0, 4.0)]
    assert found == pytest.approx([12.6, 6.3, 4.2, 1.7], abs=0.06)
    assert account([repeat(plan_site((5.0, 1.0, 1e-2)), 100)], 1e-2, "site") == pytest.approx(6.0, abs=0.02)


def test_noise_for_an_epsilon_is_enough_and_hardly_more() -> None:
    stages = [plan_patients(200, 16, 10, (0.0, 1.0, 1e-5)), plan_patients(80, 16, 20, (0.0, 1.0, 1e-5))]
    sigma = solve_noise(stages, 3.0, 1e-5)
    spent = account([with_noise(plan, sigma) for plan in stages], 1e-5)
    assert 2.97 < spent <= 3.0
    assert solve_noise(stages, 8.0, 1e-5) < sigma
    site = [repeat(plan_site((0.0, 1.0, 1e-2)), 100)]
    assert solve_noise(site, 6.0, 1e-2) == pytest.approx(5.0, abs=0.03)


def test_an_epsilon_that_no_noise_keeps_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Raise epsilon"):
        solve_noise([repeat(plan_site((0.0, 1.0, 1e-5)), 10**9)], 0.01, 1e-5)


def test_nothing_costs_nothing_and_no_noise_costs_everything() -> None:
    plan = plan_patients(100, 10, 1, (1.0, 1.0, 1e-5))
    assert account([], 1e-5) == 0
    assert account([plan, with_noise(plan, 0.0)], 1e-5) == math.inf


def test_noise_on_an_update_hides_a_patient_half_as_well_as_a_site() -> None:
    """With and without the patient two clipped updates can lie 2 C apart."""
    update = plan_site((4.0, 1.0, 1e-5))
    assert account([update], 1e-5, "patient") == pytest.approx(account([with_noise(update, 2.0)], 1e-5, "site"))
    assert account([plan_patients(100, 10, 1, (1.0, 1.0, 1e-5))], 1e-5, "site") == math.inf


def test_a_plan_is_read_as_it_was_written_and_nothing_else_is() -> None:
    plan = plan_patients(100, 200, 3, (1.0, 2.0, 1e-5))
    assert (plan.rate, plan.steps, plan.expected) == (1.0, 3, 100.0)
    assert read_plan(json.loads(json.dumps(write_plan(plan)))) == plan
    for wrong in ({"rate": 1.5}, {"steps": 0}, {"clip": 0.0}, {"noise": -1.0}, {"sampling": "shuffled"}, {"more": 1}):
        with pytest.raises(ValueError, match="Expected"):
            read_plan({**write_plan(plan), **wrong})


def test_a_plan_needs_no_torch() -> None:
    code = "import sys; import prostafed.common.privacy.accounting; assert not {'torch', 'opacus'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
