"""Of the test patients a site tells once: what differences of several answers would give away is not answered."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prostafed.client.gate.told import tell_once
from prostafed.client.rounds import answer as work
from prostafed.common.errors import AlreadyToldError
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.shell.files import holding
from prostafed.common.study import Study
from prostafed.common.tensors import Tensors
from tests.client.tiny_site import BYOL, FINETUNE, ask, initial, make_study, open_site

LAST = FINETUNE["rounds"]


def ask_test(study: Study, tensors: Tensors, run: str = "run", stage: int = 1) -> Request:
    asked = replace(ask(study, LAST, tensors, stage), action="evaluate", splits=("validation", "test"))
    return replace(asked, run=run)


def shifted(tensors: Tensors, by: int) -> Tensors:
    """Another model: `by` 0 is the same one."""
    return {name: (array + by * 1e-3).astype(array.dtype) for name, array in tensors.items()}


@pytest.fixture
def study() -> Study:
    return make_study(FINETUNE)


def test_five_models_get_one_answer(tmp_path: Path, study: Study) -> None:
    place, answered = open_site(tmp_path, study, "share_cohort = true"), []
    for number in range(5):
        with suppress(AlreadyToldError):
            answered.append(work.answer(place, ask_test(study, shifted(initial(study), number))))
    assert len(answered) == 1
    assert "test/brier" in answered[0].metrics, "a control: it was answered"


def test_the_same_request_gets_the_same_answer_from_the_disk(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, request = open_site(tmp_path, study), ask_test(study, initial(study))
    first = work.answer(place, request)
    monkeypatch.setattr(work, "assess", lambda *_: pytest.fail("it was evaluated again"))
    again = work.answer(place, request)
    assert (again, list(again.metrics)) == (first, list(first.metrics))


def test_another_name_for_the_run_opens_nothing_and_another_study_is_another(tmp_path: Path, study: Study) -> None:
    place, model = open_site(tmp_path, study), initial(study)
    first = work.answer(place, ask_test(study, model))
    with pytest.raises(AlreadyToldError, match="in the run run, which was answered"):
        work.answer(place, ask_test(study, shifted(model, 1), run="again"))
    assert work.answer(place, ask_test(study, model, run="again")) == first
    other = make_study(FINETUNE, seed=8)
    assert work.answer(open_site(tmp_path / "other", other), ask_test(other, shifted(model, 1))).metrics


def test_validation_is_told_in_every_round_and_stages_are_told_of_apart(tmp_path: Path) -> None:
    study = make_study(FINETUNE, {**FINETUNE, "task": "pirads"}, BYOL)
    place, model = open_site(tmp_path, study), initial(study)
    for number in (1, 2, LAST):
        request = replace(ask_test(study, shifted(model, number)), round=number, splits=("validation",))
        assert "validation/n" in work.answer(place, request).metrics
    for stage in (1, 2):
        reply = work.answer(place, ask_test(study, model, stage=stage))
        assert (reply.stage, "test/pirads_rps" in reply.metrics) == (stage, stage == 2)


def test_what_failed_was_not_told_and_other_splits_are_another_request(tmp_path: Path) -> None:
    request = Request("evaluate", "run", "abc", 1, 3, splits=("test",))

    def fail() -> Reply:
        raise MemoryError

    with pytest.raises(MemoryError):
        tell_once(tmp_path, request, "digest", fail)
    reply = Reply("north", "abc", 1, 3, 12, metrics={"test/n": 12.0, "test/brier": float(np.float64(0.1) + 0.2)})
    assert tell_once(tmp_path, request, "other", lambda: reply) == reply
    for changed in (replace(request, splits=("validation", "test")), replace(request, round=4)):
        with pytest.raises(AlreadyToldError):
            tell_once(tmp_path, changed, "other", lambda: reply)
    (file,) = (tmp_path / "told").glob("*.json")
    file.write_text(file.read_text()[:20])
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):  # a damaged file is no leave to tell again
        tell_once(tmp_path, request, "other", lambda: reply)


def test_while_one_request_is_answered_another_has_to_wait(tmp_path: Path) -> None:
    free = []

    def answer() -> Reply:
        (lock,) = (tmp_path / "told").glob("*.lock")
        with holding(lock) as ours:
            free.append(ours)
        return Reply("north", "abc", 1, 3, 12)

    tell_once(tmp_path, Request("evaluate", "run", "abc", 1, 3, splits=("test",)), "digest", answer)
    assert free == [False]
