"""The ledger of a site: what patients were used for and what it cost them; nothing of it can be changed unseen."""

import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prostafed.client.gate import ledger
from prostafed.client.gate.canaries import audit_run, draw_lots, keep_scores
from prostafed.client.gate.ledger import Limit, Use, begin, evaluate, leave, list_contributions, read_ledger, sum_up
from prostafed.client.rounds import answer as work
from prostafed.client.training import private
from prostafed.common.errors import BudgetError, CheckpointError, RequestError
from prostafed.common.privacy.accounting import account
from prostafed.common.privacy.plan import plan_patients
from tests.client.tiny_site import FINETUNE, ask, make_study, open_site, write_site

PLAN = plan_patients(100, 10, 2, (1.0, 1.0, 1e-5))
USE = Use("a" * 64, "run", 1, 1, "digest", {"shared": PLAN})
FREE, SILENT = Limit(0.0, 1e-5), {"unit": "patient", "noise": 2.0}


def test_patients_with_the_same_history_are_summed_up_together(tmp_path: Path) -> None:
    begin(tmp_path, USE, ["p1", "p2", "p1"], FREE)
    leave(tmp_path, USE, ["p1", "p2", "p1"])
    begin(tmp_path, replace(USE, round=2), ["p1", "p2", "p3"], FREE)
    evaluate(tmp_path, replace(USE, plans={}), ["p4"], ("validation",))
    found = sum_up(tmp_path, 1e-5)
    assert [(each.patients, each.rounds, each.evaluations) for each in found] == [
        (("p1", "p2"), 2, 0),
        (("p3",), 1, 0),
        (("p4",), 0, 1),
    ]
    assert [each.epsilon for each in found] == [account([PLAN, PLAN], 1e-5), account([PLAN], 1e-5), 0.0]
    begin(tmp_path, replace(USE, plans={}, run="other"), ["p3"], FREE)
    assert sum_up(tmp_path, 1e-5)[0].patients == ("p3",)
    assert sum_up(tmp_path, 1e-5)[0].epsilon == math.inf


def test_a_round_is_counted_once_until_something_of_it_left(tmp_path: Path) -> None:
    for _ in range(3):
        begin(tmp_path, USE, ["p1"], FREE)
    assert len(read_ledger(tmp_path)) == 1
    leave(tmp_path, USE, ["p1"])
    leave(tmp_path, USE, ["p1"])
    assert len(read_ledger(tmp_path)) == 2
    begin(tmp_path, USE, ["p1"], FREE)
    assert len(read_ledger(tmp_path)) == 3, "trained anew after it left, it costs again"
    begin(tmp_path, replace(USE, digest="other"), ["p1"], FREE)
    assert len(read_ledger(tmp_path)) == 4


def test_the_round_that_would_exceed_the_budget_is_declined_before_it_starts(tmp_path: Path) -> None:
    limit = Limit(account([PLAN, PLAN], 1e-5), 1e-5)
    begin(tmp_path, USE, ["p1", "p2"], limit)
    begin(tmp_path, replace(USE, run="another"), ["p1"], limit)
    with pytest.raises(BudgetError, match="epsilon_budget is"):
        begin(tmp_path, replace(USE, run="third"), ["p1", "p2"], limit)
    assert len(read_ledger(tmp_path)) == 2
    begin(tmp_path, replace(USE, run="third"), ["p2", "p3"], limit)
    with pytest.raises(BudgetError, match="adds no noise"):
        begin(tmp_path, replace(USE, plans={}), ["p9"], limit)


def test_what_a_patient_contributed_to_is_listed(tmp_path: Path) -> None:
    begin(tmp_path, USE, ["p1"], FREE)
    leave(tmp_path, USE, ["p1"])
    begin(tmp_path, replace(USE, round=2), ["p1"], FREE)
    evaluate(tmp_path, replace(USE, stage=2), ["p1"], ("test",))
    about = {"study": USE.study, "run": "run"}
    assert list_contributions(tmp_path, "p1") == [
        {**about, "stage": 1, "rounds": [1, 2], "left": [1], "evaluated": []},
        {**about, "stage": 2, "rounds": [], "left": [], "evaluated": [1]},
    ]
    assert list_contributions(tmp_path, "p2") == []


def test_a_changed_line_and_a_changed_cohort_show(tmp_path: Path) -> None:
    begin(tmp_path, USE, ["p1", "p2"], FREE)
    leave(tmp_path, USE, ["p1", "p2"])
    (cohort,) = (tmp_path / ledger.COHORTS).iterdir()
    whole, path = cohort.read_text(), tmp_path / ledger.FILE
    cohort.write_text('["p1"]')
    with pytest.raises(CheckpointError, match="was changed"):
        read_ledger(tmp_path)
    cohort.write_text(whole)
    path.write_text(path.read_text().replace('"patients": 2', '"patients": 1'))
    with pytest.raises(CheckpointError, match="does not follow"):
        read_ledger(tmp_path)
    assert "p1" not in path.read_text(), "no pseudonym stands in the ledger itself"


@pytest.mark.parametrize("privacy", [SILENT, {"unit": "site", "noise": 2.0}, {"unit": "none"}])
def test_a_round_and_an_evaluation_are_in_the_ledger_of_the_site(privacy: dict[str, Any], tmp_path: Path) -> None:
    study = make_study(FINETUNE, privacy=privacy)
    place = open_site(tmp_path / "north", study, "[privacy]\nminimum_cohort = 1\nnoise_seed = 0")
    for _ in range(2):
        reply = work.answer(place, ask(study))
        assert ("train/loss" in reply.metrics) == (privacy["unit"] == "none")
    work.answer(place, replace(ask(study), action="evaluate", splits=("validation",)))
    begun, left, evaluated = read_ledger(tmp_path / "north")
    assert (begun["event"], left["of"], evaluated["splits"]) == ("begins", 1, ["validation"])
    assert (begun["plans"] == "no noise") == (privacy["unit"] == "none")
    spent = sum_up(tmp_path / "north", 1e-5)
    assert math.isinf(spent[0].epsilon) == (privacy["unit"] == "none")


def test_a_site_with_a_budget_declines_a_study_without_noise(tmp_path: Path) -> None:
    study = make_study(FINETUNE)
    place = open_site(tmp_path / "north", study, "[privacy]\nminimum_cohort = 1\nepsilon_budget = 5.0")
    with pytest.raises(BudgetError, match="Nothing was trained"):
        work.answer(place, ask(study))
    assert not list(place.site.memory.glob("run/*/answer-*"))


def test_canaries_catch_noise_that_is_none_and_the_next_round_is_declined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study({**FINETUNE, "epochs": 30}, privacy={"unit": "patient", "noise": 8.0})
    sound = open_site(tmp_path / "sound", study, "[privacy]\nminimum_cohort = 1\nnoise_seed = 0\ncanaries = 1000")
    reply = work.answer(sound, ask(study))
    assert not [name for name in reply.metrics if "canar" in name or "audit" in name]
    assert not [name for name in reply.tensors if "canar" in name]
    _, left = read_ledger(tmp_path / "sound")
    assert 0 <= left["audited"] <= left["accounted"] == sum_up(tmp_path / "sound", 1e-5)[0].epsilon
    monkeypatch.setattr(private, "draw_gaussian", lambda source, *shape: np.zeros(shape))
    broken = open_site(tmp_path / "broken", study, "[privacy]\nminimum_cohort = 1\nnoise_seed = 0\ncanaries = 1000")
    work.answer(broken, ask(study))
    _, left = read_ledger(tmp_path / "broken")
    assert left["audited"] > left["accounted"]
    with pytest.raises(BudgetError, match="the noise is broken"):
        work.answer(broken, ask(study, 2))


KILLED = """
import os, signal, sys
from pathlib import Path
from prostafed.client.rounds import answer as work
from prostafed.client.rounds.workplace import open_workplace
from tests.client.tiny_site import FINETUNE, ask, make_study
from prostafed.common.shell.progress import listening
study = make_study(FINETUNE, privacy={"unit": "patient", "noise": 2.0})
def kill(step):
    os.kill(os.getpid(), signal.SIGKILL)
with listening(kill):
    work.answer(open_workplace(Path(sys.argv[1]), study.canonical()), ask(study))
"""


def test_a_round_that_was_killed_is_in_the_ledger_and_costs_once(tmp_path: Path) -> None:
    study = make_study(FINETUNE, privacy=SILENT)
    site_file = write_site(tmp_path / "north", "[privacy]\nminimum_cohort = 1\nnoise_seed = 0")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(site_file)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (begun,) = read_ledger(site_file.parent)
    assert begun["plans"]["shared"]["noise"] == 2.0
    with (site_file.parent / ledger.FILE).open("a") as file:
        file.write('{"event": "beg')  # half a line
    work.answer(work_place(site_file, study), ask(study))
    assert [line["event"] for line in read_ledger(site_file.parent)] == ["begins", "left"]


def work_place(site_file: Path, study: Any) -> Any:
    from prostafed.client.rounds.workplace import open_workplace

    return open_workplace(site_file, study.canonical())


def test_noise_that_was_broken_in_another_release_stops_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    begin(tmp_path, USE, ["p1"], FREE)
    leave(tmp_path, USE, ["p1"], audited=99.0)
    with pytest.raises(BudgetError, match="the noise is broken"):
        begin(tmp_path, replace(USE, round=2), ["p1"], FREE)
    monkeypatch.setattr(ledger, "version", lambda name: "another")
    begin(tmp_path, replace(USE, round=2), ["p1"], FREE)


def test_the_more_often_canaries_are_looked_at_the_less_doubt_each_look_has(tmp_path: Path) -> None:
    lots = draw_lots(tmp_path, "run", 400)
    scores = [float(lot) for lot in lots]
    found = []
    for number in range(1, 4):
        keep_scores(tmp_path, "run", f"1/{number}/d", scores)
        found.append(audit_run(tmp_path, "run", 1e-9))
        assert audit_run(tmp_path, "run", 1e-9) == found[-1], "the same look again"
    assert found[0] > found[1] > found[2] > 1


def test_what_left_is_marked_on_its_own_line_however_often_who_is_trained_on_changes(tmp_path: Path) -> None:
    begin(tmp_path, USE, ["p1", "p2"], FREE)  # and is interrupted
    for cohort in (["p1"], ["p1", "p2"], ["p1", "p2"], ["p1"]):
        begin(tmp_path, USE, cohort, FREE)
        leave(tmp_path, USE, cohort)
    lines = read_ledger(tmp_path)
    assert [line["event"] for line in lines].count(ledger.BEGINS) == 4, "one of each release"
    assert [line["event"] for line in lines].count(ledger.LEFT) == 4


def test_a_round_trained_again_and_again_ends_at_what_the_study_promises(tmp_path: Path) -> None:
    twice = Limit(0.0, 1e-5, account([PLAN, PLAN], 1e-5))
    for run in ("one", "two"):
        begin(tmp_path, replace(USE, run=run), ["p1"], twice)
        leave(tmp_path, replace(USE, run=run), ["p1"])
    with pytest.raises(BudgetError, match="The study promises epsilon"):
        begin(tmp_path, replace(USE, run="three"), ["p1", "p2"], twice)
    begin(tmp_path, replace(USE, study="b" * 64, run="three"), ["p1"], twice)


def test_a_ledger_that_has_gone_is_no_empty_one(tmp_path: Path) -> None:
    begin(tmp_path, USE, ["p1"], FREE)
    for take_away in (lambda path: path.write_bytes(b""), Path.unlink):
        take_away(tmp_path / ledger.FILE)
        with pytest.raises(CheckpointError, match="what was spent is not known"):
            begin(tmp_path, USE, ["p1"], FREE)


def test_metrics_of_training_patients_do_not_leave_where_noise_hides_them(tmp_path: Path) -> None:
    study = make_study(FINETUNE, privacy=SILENT)
    place = open_site(tmp_path / "north", study, "[privacy]\nminimum_cohort = 1\nnoise_seed = 0")
    with pytest.raises(RequestError, match="metrics of them have no noise"):
        work.answer(place, replace(ask(study), action="evaluate", splits=("train",)))
