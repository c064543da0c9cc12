"""What a stage costs is measured on real steps, and leaves no trace at the site."""

from pathlib import Path

import pytest

from prostafed.client.gate.allowance import allow
from prostafed.client.rounds import estimate, phases
from prostafed.client.rounds.answer import answer
from prostafed.client.rounds.estimate import estimate_stage
from prostafed.common.errors import DataError
from prostafed.common.shell.progress import Event, Step, listening
from tests.client.tiny_site import BYOL, FINETUNE, ask, make_study, open_site

STAGES = {
    "byol": BYOL,
    "scaffold": {**FINETUNE, "aggregate": "scaffold", "optimiser": "sgd"},
    "ditto": {**FINETUNE, "aggregate": "ditto"},
    "fedrep": {**FINETUNE, "mode": "alternate", "head_epochs": 1},
    "alone": {**FINETUNE, "share": []},
    "few": {**FINETUNE, "epochs": 1, "batch_size": 100},
}


@pytest.mark.parametrize("name", STAGES)
def test_the_steps_are_those_that_a_round_takes(tmp_path: Path, name: str) -> None:
    study = make_study(STAGES[name])
    place = open_site(tmp_path, study)
    cost = estimate_stage(place, 1)
    assert not (tmp_path / "memory" / estimate.RUN).exists()
    assert {path.name for path in (tmp_path / "memory").iterdir()} == {"sides.json", "sides.lock"}
    told: list[Event] = []
    with listening(told.append):
        reply = answer(place, ask(study))
    assert cost.steps == len([each for each in told if isinstance(each, Step)])
    assert cost.cases == reply.cases
    assert cost.values == sum(array.size for array in reply.tensors.values())
    assert cost.sent_bytes == sum(array.nbytes for array in reply.tensors.values())
    kept = sum(file.stat().st_size for file in (tmp_path / "memory" / "run").rglob("*") if file.is_file())
    assert kept < cost.kept_bytes + 20_000, "headers of files beside"
    assert cost.round_s == pytest.approx(cost.steps * cost.step_s)


PRIVATE = {
    "patient": (FINETUNE, {"unit": "patient", "noise": 2.0}),
    "epsilon": (FINETUNE, {"unit": "patient", "epsilon": 20.0}),
    "fedrep": ({**FINETUNE, "mode": "alternate", "head_epochs": 1}, {"unit": "patient", "noise": 2.0}),
    "ditto": ({**FINETUNE, "aggregate": "ditto"}, {"unit": "patient", "noise": 2.0}),
    "site": (FINETUNE, {"unit": "site", "noise": 2.0}),
}


@pytest.mark.parametrize("name", PRIVATE)
def test_with_noise_the_steps_are_those_of_the_plan(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """9 patients in batches of 4 on average: 2 epochs are round(2 * 9 / 4) = 4 private steps, and 6 plain ones."""
    from prostafed.client.training import private

    stage, privacy = PRIVATE[name]
    study = make_study({**stage, "batch_size": 4}, privacy=privacy)
    place = open_site(tmp_path, study, "[privacy]\nminimum_cohort = 1")
    taken, add = list[int](), private._StepTaker._add_unit
    with monkeypatch.context() as patch:
        patch.setattr(private._StepTaker, "_add_unit", lambda *given: taken.append(given[1]) or add(*given))
        cost = estimate_stage(place, 1)
    phases_ = {"site": 0, "fedrep": 2}.get(name, 1)
    assert len(taken) == 2 * 4 * phases_, "the expected batch, to warm up and to be timed"
    told: list[Event] = []
    with listening(told.append):
        answer(place, ask(study))
    plan_steps = {"site": 6, "fedrep": 4 + 2, "ditto": 4 + 6}.get(name, 4)
    assert cost.steps == len([each for each in told if isinstance(each, Step)]) == plan_steps


def test_a_step_is_timed_after_one_that_warms_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, clock = make_study(FINETUNE), [100.0, 107.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return clock.pop(0)

    monkeypatch.setattr(estimate, "time", Clock)
    cost = estimate_stage(open_site(tmp_path, study), 1)
    assert (clock, cost.step_s) == ([], 7.0)


def test_what_a_run_left_at_the_site_is_not_read(tmp_path: Path) -> None:
    study = make_study(FINETUNE)
    place = open_site(tmp_path, study)
    folder = place.site.memory / estimate.RUN / "stage-1"
    folder.mkdir(parents=True)
    (folder / "round-00001.safetensors").write_text("nothing")
    estimate_stage(place, 1)


def test_groups_stand_in_one_order(tmp_path: Path) -> None:
    study = make_study({**BYOL, "aggregate": "fedu"})
    assert estimate_stage(open_site(tmp_path, study), 1).groups == ("encoder", "predictor", "projection")


def test_what_leaves_after_compression_is_what_may_leave(tmp_path: Path) -> None:
    study = make_study(FINETUNE, round={"compress": "topk", "top_fraction": 0.1})
    cost = estimate_stage(open_site(tmp_path, study), 1)
    assert cost.sent_bytes == allow(study.canonical(), 1).payload.most_bytes < cost.values


def test_a_later_stage_is_measured_by_itself_when_everything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(BYOL, {**FINETUNE, "mode": "gradual", "frozen_rounds": 2})
    frozen, real = [], phases.Optimisation

    def note(**settings):
        frozen.append(settings["tuning"].frozen)
        return real(**settings)

    monkeypatch.setattr(phases, "Optimisation", note)
    cost = estimate_stage(open_site(tmp_path, study), 2)
    assert (cost.number, cost.groups, frozen) == (2, ("encoder",), [False])


def test_a_site_without_a_case_for_the_stage_is_told(tmp_path: Path) -> None:
    study = make_study({**FINETUNE, "task": "lesion"})
    with pytest.raises(DataError, match="no case to train on in this stage"):
        estimate_stage(open_site(tmp_path, study), 1)
