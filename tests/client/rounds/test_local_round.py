"""A round at a site: interrupted and taken up again, asked again, compressed, with what rules keep and send."""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prostafed.client.gate.release import ReleaseError
from prostafed.client.rounds import answer as work
from prostafed.client.rounds import local_round
from prostafed.client.rounds.job import open_job
from prostafed.client.rounds.memory import find_partial, recall, save_partial, stage_folder
from prostafed.client.rounds.phases import list_phases
from prostafed.client.rounds.starting import Start, begin_round, load_network
from prostafed.client.rounds.workplace import Workplace
from prostafed.client.training import step as stepper
from prostafed.client.training.loop import TrainingRecord
from prostafed.client.training.optimisers import Tuning, pack_states
from prostafed.client.training.rules.rule import RuleOutput
from prostafed.common.errors import DivergedError
from prostafed.common.exchange.compression import decode
from prostafed.common.shell.leaving import Interrupted, leave_on_sigterm
from prostafed.common.shell.progress import Event, Step, listening
from prostafed.common.study import Study
from prostafed.common.tensors import Tensors, group_of, read_tensors
from tests.client.tiny_site import BYOL, FINETUNE, ask, initial, make_study, open_site, read_files, watching

EVERY_STEP = "checkpoint_minutes = 1e-9"
ALTERNATE = {**FINETUNE, "mode": "alternate", "head_epochs": 1}
DITTO = {**FINETUNE, "aggregate": "ditto", "epochs": 1}
SCAFFOLD = {**FINETUNE, "aggregate": "scaffold", "optimiser": "sgd", "epochs": 1}


def folder_of(place: Workplace) -> Path:
    return stage_folder(place.site.memory, "run", 1)


def same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


@pytest.mark.parametrize(
    ("stage", "stop_at", "again"),
    [
        (FINETUNE, 1, [1, 2, 3, 4]),
        (FINETUNE, 2, [2, 3, 4]),
        (FINETUNE, 3, [3, 4]),
        (FINETUNE, 4, [4]),
        ({**FINETUNE, "keep_optimiser": True}, 3, [3, 4]),
        (BYOL, 3, [3, 4]),
        (ALTERNATE, 2, [2, 1, 2, 3, 4]),
        (ALTERNATE, 3, [1, 2, 3, 4]),
        (ALTERNATE, 5, [3, 4]),
        (DITTO, 2, [2, 1, 2]),
        (DITTO, 4, [2]),
    ],
)
def test_an_interrupted_round_ends_with_the_bytes_of_one_that_was_not(
    stage: dict[str, Any], stop_at: int, again: list[int], tmp_path: Path
) -> None:
    study = make_study(stage)
    whole = open_site(tmp_path / "whole", study)
    broken = open_site(tmp_path / "broken", study, EVERY_STEP)
    for number in (1, 2):
        expected = work.answer(whole, ask(study, number))
        with watching(stop_at), pytest.raises(InterruptedError):
            work.answer(broken, ask(study, number))
        with watching() as steps:
            reply = work.answer(broken, ask(study, number))
        assert [step.step for step in steps] == again, "it goes on where it stopped"
        assert same(reply.tensors, expected.tensors)
    assert read_files(folder_of(broken)) == read_files(folder_of(whole))


KILLED = """
import os, signal, sys
from pathlib import Path
from prostafed.client.rounds import answer as work
from prostafed.client.rounds.workplace import open_workplace
from tests.client.tiny_site import FINETUNE, ask, make_study
from prostafed.common.shell.progress import listening
study = make_study(FINETUNE)
def kill(step):
    if step.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
with listening(kill):
    work.answer(open_workplace(Path(sys.argv[1]), study.canonical()), ask(study))
"""


def test_a_killed_site_goes_on(tmp_path: Path) -> None:
    study = make_study(FINETUNE)
    whole, killed = open_site(tmp_path / "whole", study), open_site(tmp_path / "killed", study, EVERY_STEP)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed" / "site.toml")]
    assert subprocess.run(command, check=False, cwd=Path(__file__).parents[3]).returncode == -9
    folder = folder_of(killed)
    assert [path.name for path in folder.iterdir()] == ["partial-00001.pt"]
    (folder / ".round-00001.safetensors.abc.part").write_bytes(b"half")
    with watching() as steps:
        work.answer(killed, ask(study))
    assert [step.step for step in steps] == [3, 4]
    work.answer(whole, ask(study))
    assert read_files(folder) == read_files(folder_of(whole))


@pytest.fixture
def _own_sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    leave_on_sigterm()
    yield
    leave_on_sigterm()
    signal.signal(signal.SIGTERM, before)


def terminate(stop_at: int) -> Callable[[Event], None]:
    """Return a listener that asks this process to leave at a step."""

    def listen(event: Event) -> None:
        if isinstance(event, Step) and event.step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    return listen


@pytest.mark.usefixtures("_own_sigterm")
def test_a_site_that_is_asked_to_leave_keeps_the_step_it_was_at(tmp_path: Path) -> None:
    study = make_study(FINETUNE)
    whole, left = open_site(tmp_path / "whole", study), open_site(tmp_path / "left", study, "checkpoint_minutes = 60")
    with listening(terminate(3)), pytest.raises(Interrupted):
        work.answer(left, ask(study))
    assert [path.name for path in folder_of(left).iterdir()] == ["partial-00001.pt"]
    leave_on_sigterm()
    with watching() as steps:
        work.answer(left, ask(study))
    assert [step.step for step in steps] == [4], "all three were kept, an hour before the next checkpoint"
    work.answer(whole, ask(study))
    assert read_files(folder_of(left)) == read_files(folder_of(whole))


@pytest.mark.usefixtures("_own_sigterm")
def test_without_checkpoints_a_site_leaves_at_once(tmp_path: Path) -> None:
    study = make_study(FINETUNE)
    place = open_site(tmp_path / "left", study, "checkpoint_minutes = 0")
    with listening(terminate(3)), pytest.raises(Interrupted):
        work.answer(place, ask(study))
    assert not list(folder_of(place).iterdir())


def test_without_checkpoints_a_round_begins_again(tmp_path: Path) -> None:
    study = make_study(ALTERNATE)
    place = open_site(tmp_path, study, "checkpoint_minutes = 0")
    with watching(4), pytest.raises(InterruptedError):
        work.answer(place, ask(study))
    assert not list(folder_of(place).iterdir())
    with watching() as steps:
        work.answer(place, ask(study))
    assert len(steps) == 6


def test_other_tensors_or_another_round_do_not_go_on_from_what_was_begun(tmp_path: Path) -> None:
    study = make_study(FINETUNE)
    place = open_site(tmp_path, study, EVERY_STEP)
    for request in (ask(study, 2), ask(study, 1, {name: array + 1 for name, array in initial(study).items()})):
        with watching(3), pytest.raises(InterruptedError):
            work.answer(place, request)
        with watching() as steps:
            work.answer(place, ask(study))
        assert len(steps) == 4
        assert not list(folder_of(place).glob("partial-*"))
        (folder_of(place) / "answer-00001.safetensors").unlink()


def test_a_round_that_another_release_began_is_begun_anew(tmp_path: Path) -> None:
    study = make_study(FINETUNE)
    place = open_site(tmp_path, study, EVERY_STEP)
    with watching(3), pytest.raises(InterruptedError):
        work.answer(place, ask(study))
    found = find_partial(folder_of(place), 1)
    assert found is not None
    older = {name: value for name, value in found.items() if name != "form"}
    save_partial(folder_of(place), 1, {**older, "state": {"stepper": {}, "generator": torch.Generator().get_state()}})
    with watching() as steps:
        work.answer(place, ask(study))
    assert [step.step for step in steps] == [1, 2, 3, 4]


def test_a_lost_answer_is_given_again_without_training(tmp_path: Path) -> None:
    study = make_study(FINETUNE)
    place = open_site(tmp_path, study)
    first = work.answer(place, ask(study))
    before = read_files(folder_of(place))
    with watching() as steps:
        again = work.answer(place, ask(study))
    assert not steps
    assert same(again.tensors, first.tensors)
    assert replace(again, tensors={}) == replace(first, tensors={})
    assert read_files(folder_of(place)) == before
    with watching() as steps:
        other = work.answer(place, ask(study, 1, {name: array + 1 for name, array in initial(study).items()}))
    assert len(steps) == 4
    assert not same(other.tensors, first.tensors)


ROUNDS_ASKED = (1, 4, 5, 9)  # `participants` leaves a site out of some


def test_a_site_that_ends_between_memory_and_answer_gives_the_same_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study({**FINETUNE, "rounds": 9, "keep_optimiser": True}, round={"compress": "topk"})
    whole, broken = open_site(tmp_path / "whole", study), open_site(tmp_path / "broken", study)

    def end(*_: object) -> None:
        raise InterruptedError

    for number in ROUNDS_ASKED:
        work.answer(whole, ask(study, number))
        with monkeypatch.context() as patched:
            patched.setattr(local_round, "keep_answer", end)
            with pytest.raises(InterruptedError):
                work.answer(broken, ask(study, number))
        work.answer(broken, ask(study, number))
        assert read_files(folder_of(broken)) == read_files(folder_of(whole))


def test_a_round_after_a_gap_can_be_asked_for_again_with_other_tensors(tmp_path: Path) -> None:
    study = make_study({**FINETUNE, "rounds": 9})
    whole, again = open_site(tmp_path / "whole", study), open_site(tmp_path / "again", study)
    other = {name: array + 1e-3 for name, array in initial(study).items()}
    for place in (whole, again):
        work.answer(place, ask(study, 1))
    work.answer(again, ask(study, 4))
    assert same(work.answer(again, ask(study, 4, other)).tensors, work.answer(whole, ask(study, 4, other)).tensors)


def test_steps_and_loss_are_told_to_the_server(tmp_path: Path) -> None:
    study = make_study(ALTERNATE)
    metrics = work.answer(open_site(tmp_path, study), ask(study)).metrics
    assert metrics.keys() == {"train/loss", "train/steps"}
    assert metrics["train/steps"] == 4, "of what is shared: not the heads' own epoch"


def run_two(stage: dict[str, Any], folder: Path, **sections: Any) -> tuple[Study, Workplace, list[Tensors]]:
    """Two rounds of one site, whose update becomes the global model."""
    study = make_study(stage, **sections)
    place, tensors, answers = open_site(folder, study), initial(study), []
    extra: Tensors = {}
    for number in (1, 2):
        reply = work.answer(place, ask(study, number, {**tensors, **extra}))
        answers.append(reply.tensors)
        sent = {**tensors, **{name: np.zeros_like(tensors[name.partition(".")[2]]) for name in reply.tensors
                              if name.startswith("control.")}, **extra}  # fmt: skip
        update = decode(sent, reply.tensors, study.round.compress)
        extra = {name: array for name, array in update.items() if name.startswith("control.")}
        tensors = {**tensors, **{name: array for name, array in update.items() if name not in extra}}
    return study, place, answers


@pytest.mark.parametrize("rule", ["float16", "topk"])
def test_a_compressed_answer_stands_for_the_update_and_what_is_left_out_is_kept(rule: str, tmp_path: Path) -> None:
    study = make_study(FINETUNE, round={"compress": rule, "top_fraction": 0.2})
    plain = work.answer(open_site(tmp_path / "plain", make_study(FINETUNE)), ask(make_study(FINETUNE)))
    place = open_site(tmp_path / "site", study)
    reply = work.answer(place, ask(study))
    found = decode(initial(study), reply.tensors, rule)
    kept = recall(folder_of(place), 1, study.hash())
    assert kept is not None
    for name, expected in plain.tensors.items():
        owed = kept.residual[name] if rule == "topk" else 0
        np.testing.assert_allclose(found[name] + owed, expected, atol=1e-5)
    assert bool(kept.residual) == (rule == "topk")


def test_scaffold_sends_its_change_beside_the_tensors_and_one_site_is_plain_sgd(tmp_path: Path) -> None:
    study, place, answers = run_two(SCAFFOLD, tmp_path / "scaffold")
    _, _, plain = run_two({**SCAFFOLD, "aggregate": "fedavg"}, tmp_path / "plain")
    for answer, expected in zip(answers, plain, strict=True):
        assert set(answer) == {*expected, *(f"control.{name}" for name in expected)}
        for name, array in expected.items():
            np.testing.assert_allclose(answer[name], array, atol=1e-6)
    kept = recall(folder_of(place), 2, study.hash())
    assert kept is not None
    assert set(kept.rule) == set(plain[0])


def test_a_personal_network_is_kept_predicts_and_leaves_the_shared_one_alone(tmp_path: Path) -> None:
    study, place, answers = run_two(DITTO, tmp_path / "ditto")
    _, _, plain = run_two({**DITTO, "aggregate": "fedavg"}, tmp_path / "plain")
    assert all(same(one, other) for one, other in zip(answers, plain, strict=True))
    kept = recall(folder_of(place), 2, study.hash())
    assert kept is not None
    predicting = read_tensors(load_network(open_job(place, ask(study, 2, answers[-1])), 2))
    assert same(predicting, kept.personal)
    assert not same({name: predicting[name] for name in answers[-1]}, answers[-1])


@pytest.mark.parametrize("privacy", [{"unit": "patient", "noise": 2.0}, {"unit": "site", "noise": 2.0}])
def test_where_noise_hides_patients_nothing_that_leaves_tells_how_a_personal_network_fares(
    privacy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One patient can make it diverge, and it has no noise: the answer is the same, and it stays as it was."""
    study, run = make_study(DITTO, privacy=privacy), local_round.run_phase
    places = [open_site(tmp_path / name, study, "[privacy]\nminimum_cohort = 1\nnoise_seed = 0") for name in "ab"]
    expected = work.answer(places[0], ask(study))

    def diverge(job: Any, phase: Any, continuation: Any) -> TrainingRecord:
        record = run(job, phase, continuation)
        if phase.name == local_round.PERSONAL:
            raise DivergedError("It ran away.")
        return record

    monkeypatch.setattr(local_round, "run_phase", diverge)
    reply = work.answer(places[1], ask(study))
    assert same(reply.tensors, expected.tensors)
    assert (reply.cases, reply.metrics) == (expected.cases, expected.metrics)
    kept, begun = recall(folder_of(places[1]), 1, study.hash()), recall(folder_of(places[0]), 1, study.hash())
    assert kept is not None
    assert begun is not None
    assert same({name: kept.personal[name] for name in reply.tensors}, initial(study))
    assert not same(kept.personal, begun.personal)
    plain = open_site(tmp_path / "plain", make_study(DITTO))
    with pytest.raises(DivergedError, match="ran away"):
        work.answer(plain, ask(plain.study))


def test_a_strong_pull_holds_the_personal_network_to_the_global_one(tmp_path: Path) -> None:
    distances = []
    for pull in (1e-6, 1e3):
        study, place, _ = run_two({**DITTO, "aggregate_parameters": {"pull": pull}, "optimiser": "sgd",
                                   "learning_rate": 1e-3, "rounds": 2}, tmp_path / str(pull))  # fmt: skip
        kept = recall(folder_of(place), 1, study.hash())
        assert kept is not None
        distances.append(sum(float(np.abs(kept.personal[n] - array).sum()) for n, array in initial(study).items()))
    assert distances[1] < distances[0]


@pytest.mark.parametrize("aggregate", ["fedu", "fedema"])
def test_rules_of_predictors_keep_their_state_and_targets_stay(aggregate: str, tmp_path: Path) -> None:
    study, place, answers = run_two({**BYOL, "aggregate": aggregate}, tmp_path)
    assert {group_of(name) for name in answers[0]} == {"encoder", "projection", "predictor"}
    kept = recall(folder_of(place), 2, study.hash())
    assert kept is not None
    assert {group_of(name) for name in kept.tensors} == {"target_encoder", "target_projection"}
    assert kept.rule["drift"] > 0


def test_fedema_starts_the_second_round_from_the_mean(tmp_path: Path) -> None:
    study = make_study({**BYOL, "aggregate": "fedema", "aggregate_parameters": {"tau": 0.25}})
    place = open_site(tmp_path, study)
    own = work.answer(place, ask(study)).tensors
    others = {name: array + 1 for name, array in own.items()}
    start = begin_round(open_job(place, ask(study, 2, others)))
    for name, array in own.items():
        np.testing.assert_allclose(start.begun[name], 0.25 * array + 0.75 * others[name], rtol=1e-5, atol=1e-6)


def test_the_heads_come_first_then_the_encoder_alone(tmp_path: Path) -> None:
    study = make_study(ALTERNATE)
    job = open_job(open_site(tmp_path, study), ask(study))
    heads, shared = list_phases(job, begin_round(job))
    assert (heads.name, heads.settings.epochs, heads.settings.tuning) == ("heads", 1, Tuning(frozen=True))
    assert (shared.name, shared.settings.epochs, shared.settings.tuning) == ("shared", 2, Tuning(frozen_heads=True))
    assert heads.network is shared.network
    assert heads.settings.seed != shared.settings.seed


def test_an_optimiser_is_kept_where_the_study_says_so(tmp_path: Path) -> None:
    for keep in (False, True):
        study = make_study({**FINETUNE, "keep_optimiser": keep})
        place = open_site(tmp_path / str(keep), study)
        work.answer(place, ask(study))
        kept = recall(folder_of(place), 1, study.hash())
        assert kept is not None
        assert bool(kept.optimiser) == keep
        if keep:
            assert kept.optimiser["shared/0/step"].shape == ()
            assert kept.optimiser["shared/0/step"] == 4
            work.answer(place, ask(study, 2))
            later = recall(folder_of(place), 2, study.hash())
            assert later is not None
            assert later.optimiser["shared/0/step"] == 8


def test_the_loss_scale_of_float16_is_kept_for_the_next_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepper, "choose_dtype", lambda precision, device: torch.float16)
    study, scaled = make_study(DITTO), []
    place = open_site(tmp_path, study)
    monkeypatch.setattr(torch.amp.GradScaler, "load_state_dict", lambda self, state: scaled.append(state))
    work.answer(place, ask(study))
    kept = recall(folder_of(place), 1, study.hash())
    assert kept is not None
    assert not scaled
    work.answer(place, ask(study, 2))
    names = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")
    assert set(kept.scaler) == {f"{phase}/{name}" for phase in ("shared", "personal") for name in names}
    assert scaled == [{name: kept.scaler[f"{phase}/{name}"] for name in names} for phase in ("shared", "personal")]


def test_what_must_not_leave_is_neither_answered_nor_kept_as_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(FINETUNE)
    train = local_round.run_phase

    def leak(*arguments: Any) -> TrainingRecord:
        return replace(train(*arguments), loss=math.inf)

    place = open_site(tmp_path, study)
    monkeypatch.setattr(local_round, "run_phase", leak)
    with pytest.raises(ReleaseError):
        work.answer(place, ask(study))
    assert not list(folder_of(place).glob("answer-*"))


def test_a_rule_that_sends_what_the_study_does_not_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(SCAFFOLD)
    begin = local_round.begin_round

    def begin_oddly(*arguments: Any) -> Start:
        start = begin(*arguments)
        odd = {f"control.{name}": np.zeros(5, np.float32) for name in start.shared}
        return replace(start, rule=replace(start.rule, end=lambda given, trained: RuleOutput(sent=odd)))

    monkeypatch.setattr(local_round, "begin_round", begin_oddly)
    with pytest.raises(ReleaseError, match="Nothing was sent"):
        work.answer(open_site(tmp_path, study), ask(study))


def test_no_answer_is_kept_before_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*_: object) -> None:
        raise InterruptedError

    study = make_study(FINETUNE)
    place = open_site(tmp_path, study)
    monkeypatch.setattr(local_round, "remember", end)
    with pytest.raises(InterruptedError):
        work.answer(place, ask(study))
    assert not list(folder_of(place).glob("answer-*"))


def test_a_round_begins_with_the_moments_and_the_residual_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study({**DITTO, "keep_optimiser": True}, round={"compress": "topk", "top_fraction": 0.2})
    place, given, owed = open_site(tmp_path, study), [], []
    run, pack = local_round.run_phase, local_round.encode

    def run_watched(job: Any, phase: Any, continuation: Any) -> TrainingRecord:
        given.append({} if job.request.round == 1 else pack_states({phase.name: continuation.optimiser}))
        return run(job, phase, continuation)

    def encode_watched(*arguments: Any) -> Any:
        owed.append(dict(arguments[-1]))
        return pack(*arguments)

    monkeypatch.setattr(local_round, "run_phase", run_watched)
    monkeypatch.setattr(local_round, "encode", encode_watched)
    work.answer(place, ask(study))
    kept = recall(folder_of(place), 1, study.hash())
    assert kept is not None
    work.answer(place, ask(study, 2))
    assert same(kept.optimiser, {**given[2], **given[3]})
    assert not same(kept.residual, {})
    assert same(kept.residual, owed[1])


def test_a_site_takes_the_threads_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    open_site(tmp_path, make_study(FINETUNE))
    assert given == [1]


def test_generated_cases_are_said(tmp_path: Path) -> None:
    study = make_study(FINETUNE)
    place = open_site(tmp_path, study)
    made = tuple(replace(record, source="phantom") for record in place.cases.records)
    metrics = work.answer(replace(place, cases=replace(place.cases, records=made)), ask(study)).metrics
    assert metrics["train/generated"] == 1.0, "that, and not how many: a count could be a small one"
    assert "train/generated" not in work.answer(open_site(tmp_path / "patients", study), ask(study)).metrics


def test_a_round_in_the_making_that_holds_code_is_not_read(tmp_path: Path) -> None:
    save_partial(tmp_path, 1, {"done": {}, "phase": "shared"})
    assert find_partial(tmp_path, 1) is not None
    save_partial(tmp_path, 1, {"done": tmp_path})
    assert find_partial(tmp_path, 1) is None
