"""What a person of the hospital sees of privacy: the ledger, and what a study will cost; as typed."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from prostafed.client.commands.statement import say_privacy
from prostafed.client.gate.ledger import COHORTS, FILE, Limit, Use, begin, evaluate, leave, sum_up
from prostafed.client.rounds import answer as work
from prostafed.client.rounds.planning import cost_noise, plan_stages
from prostafed.common.errors import BudgetError
from prostafed.common.privacy.accounting import account
from prostafed.common.privacy.plan import plan_patients, repeat
from tests import programs
from tests.client.tiny_site import BYOL, FINETUNE, ask, make_study, open_site, write_site
from tests.programs import Done

Call = Callable[..., Done]
PLAN = plan_patients(9, 5, 2, (2.0, 1.0, 1e-5))
USE = Use("ab" * 32, "demo", 1, 1, "digest", {"shared": PLAN})
FREE = Limit(0.0, 1e-5)
RESTORE = {"kind": "pretrain", "method": "restore", "rounds": 2, "epochs": 1, "batch_size": 5}


@pytest.fixture
def call() -> Call:
    return partial(programs.call, "prostafed-site")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site that has used patients in two rounds, and told of others."""
    path = write_site(tmp_path / "north", "[privacy]\nminimum_cohort = 1\nepsilon_budget = 9.0").parent
    begin(path, USE, ["p1", "p2"], FREE)
    leave(path, USE, ["p1", "p2"])
    begin(path, replace(USE, round=2), ["p1"], FREE)
    evaluate(path, replace(USE, plans={}), ["p3"], ("test",))
    monkeypatch.chdir(path)
    return path


class TestLedger:
    def test_it_shows_each_cohort_its_epsilon_and_the_budget(self, call: Call, folder: Path) -> None:
        done = call("ledger")
        assert done.code == 0, done.err
        one, two = account([PLAN], 1e-5), account([repeat(PLAN, 2)], 1e-5)
        for said in (f"1 rounds of training, 0 evaluations; epsilon {one:.3g}", f"epsilon {two:.3g}", "epsilon 0"):
            assert said in done.out, done.out
        assert "Budget: epsilon 9, at delta 1e-05. Metrics have no noise" in done.out
        assert "not audited: no canaries were planted" in done.out

    def test_json_has_the_same(self, call: Call, folder: Path) -> None:
        told = call("ledger", "--json").json
        assert (told["holds"], told["of"], told["budget"], told["audited"]) == (True, 4, 9.0, None)
        assert [each["patients"] for each in told["cohorts"]] == [["p1"], ["p2"], ["p3"]]
        begin(folder, replace(USE, plans={}, run="plain"), ["p9"], FREE)
        told = call("ledger", "--json").json
        assert (told["cohorts"][0]["patients"], told["cohorts"][0]["epsilon"]) == (["p9"], None)
        assert "without bound: a round had no noise" in call("ledger").out

    def test_what_canaries_showed_last_is_beside_it(self, call: Call, folder: Path) -> None:
        leave(folder, replace(USE, round=2), ["p1"], 0.5)
        assert "canaries show 0.5 at least, accounted are" in call("ledger").out
        assert call("ledger", "--json").json["audited"]["holds"] is True

    def test_verify_says_that_nothing_was_changed(self, call: Call, folder: Path) -> None:
        done = call("ledger", "--verify")
        assert (done.code, done.out.strip()) == (0, "4 lines, none changed or taken out.")

    @pytest.mark.parametrize("options", [("--verify",), (), ("--patient", "p1")])
    @pytest.mark.parametrize("what", ["line", "line taken out", "cohort", "cohort taken away"])
    def test_what_was_changed_is_exit_1(self, call: Call, folder: Path, what: str, options: tuple[str, ...]) -> None:
        path, cohort = folder / FILE, next((folder / COHORTS).iterdir())
        lines = path.read_text().splitlines(keepends=True)
        if what == "line":
            path.write_text(path.read_text().replace('"steps": ', '"steps": 1', 1))
        elif what == "line taken out":
            path.write_text("".join(lines[:1] + lines[2:]))
        elif what == "cohort":
            cohort.write_text(cohort.read_text().replace("p", "q"))
        else:
            cohort.unlink()
        done = call("ledger", *options)
        assert done.code == 1
        assert ("does not follow" if what.startswith("line") else "missing or was changed") in done.out + done.err
        told = call("ledger", *options, "--json")
        assert (told.code, told.json["holds"]) == (1, False)

    def test_of_a_patient_it_lists_every_round(self, call: Call, folder: Path) -> None:
        assert (
            "run demo, stage 1: trained on in rounds 1, 2; left: 1; evaluated in: none"
            in call("ledger", "--patient", "p1").out
        )
        assert "evaluated in: 1" in call("ledger", "--patient", "p3").out
        assert "No study was trained or evaluated on p8." in call("ledger", "--patient", "p8").out
        told = call("ledger", "--patient", "p1", "--json").json
        assert [part["rounds"] for part in told["contributed"]] == [[1, 2]]


class TestTheStatement:
    def cost(self, folder: Path, settings: str = "", **privacy: Any) -> tuple[Any, Any, str]:
        study = make_study(FINETUNE, privacy={"unit": "patient", "delta": 1e-3, **privacy})
        place = open_site(folder, study, f"[privacy]\nminimum_cohort = 1\n{settings}")
        begin(place.folder, replace(USE, plans={"shared": PLAN}), ["p1"], FREE)
        cost = cost_noise(place)
        return place, cost, " ".join(say_privacy(study, cost))

    def test_the_noise_that_keeps_to_epsilon_is_solved_for(self, tmp_path: Path) -> None:
        place, cost, said = self.cost(tmp_path / "north", epsilon=8.0)
        assert cost.steps == 3 * plan_stages(place)[0]["shared"].steps
        assert 7.5 < cost.epsilon <= 8.0
        assert f"epsilon = {cost.epsilon:.3g} at delta = 0.001, with a noise multiplier of {cost.multiplier:g}" in said

    def test_what_was_spent_the_budget_and_what_is_not_covered(self, tmp_path: Path) -> None:
        _, cost, said = self.cost(tmp_path / "north", "epsilon_budget = 4.0\ndelta = 1e-4", noise=2.0)
        assert cost.spent == account([PLAN], 1e-4)
        assert f"is at most {cost.spent:.3g}. Your budget is 4." in said
        assert "does not cover the metrics of evaluations, the numbers of cases, and which patients" in said
        assert "not audited: no canaries were planted" in said

    def test_what_canaries_showed(self, tmp_path: Path) -> None:
        place, _, _ = self.cost(tmp_path / "north", noise=2.0)
        leave(place.folder, replace(USE, plans={"shared": PLAN}), ["p1"], 0.5)
        said = " ".join(say_privacy(place.study, cost_noise(place)))
        assert "canaries show 0.5 at least" in said

    def test_a_round_without_noise_and_no_budget(self, tmp_path: Path) -> None:
        place, _, _ = self.cost(tmp_path / "north", noise=2.0)
        begin(place.folder, replace(USE, plans={}, run="plain"), ["p1"], FREE)
        said = " ".join(say_privacy(place.study, cost_noise(place)))
        assert "is at most without bound, since a round had no noise. You have set no budget" in said

    def test_noise_for_a_site_says_what_it_is_for_one_patient(self, tmp_path: Path) -> None:
        study = make_study(FINETUNE, privacy={"unit": "site", "noise": 5.0})
        cost = cost_noise(open_site(tmp_path / "north", study))
        assert cost
        assert f"For one patient it is epsilon = {cost.of_patient:.3g}." in say_privacy(study, cost)
        assert cost.of_patient > cost.epsilon


def test_a_budget_holds_over_two_stages(tmp_path: Path) -> None:
    """It is enough for the first stage, and for all but the last round of the second."""
    study = make_study(RESTORE, FINETUNE, privacy={"unit": "patient", "noise": 2.0})
    settings = "[privacy]\nminimum_cohort = 1\nnoise_seed = 0\nepsilon_budget = "
    plans = plan_stages(open_site(tmp_path / "plan", study))
    first, second = (each["shared"] for each in plans)
    enough = account([repeat(first, 2), repeat(second, 2)], 1e-5)
    place = open_site(tmp_path / "north", study, f"{settings}{enough * 1.001}")
    for number in (1, 2):
        work.answer(place, ask(study, number))
    for number in (1, 2):
        work.answer(place, ask(study, number, stage=2))
    with pytest.raises(BudgetError, match="Round 3 of stage 2 would bring patients to epsilon"):
        work.answer(place, ask(study, 3, stage=2))
    assert sum_up(place.folder, 1e-5)[0].epsilon == pytest.approx(enough)
    assert not math.isinf(enough)
    assert json.loads((place.folder / FILE).read_text().splitlines()[-1])["event"] == "left"


def test_a_budget_is_for_noise_that_can_be_computed(tmp_path: Path) -> None:
    place = open_site(
        tmp_path / "north", study := make_study(BYOL), "[privacy]\nminimum_cohort = 1\nepsilon_budget = 9"
    )
    with pytest.raises(BudgetError, match="adds no noise"):
        work.answer(place, ask(study))
