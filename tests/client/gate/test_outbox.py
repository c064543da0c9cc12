"""What left is listed before it leaves; what is held leaves when a person says so, and not before."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prostafed.client.gate import outbox
from prostafed.client.gate.audit import read_audit
from prostafed.client.gate.outbox import FILE, decide, note_left, read_outbox, require_release
from prostafed.common.errors import CheckpointError, DeclinedError, HeldError, StorageError
from prostafed.common.exchange.messages import Refusal, Reply, Request
from prostafed.common.tensors import count_bytes, hash_tensors
from tests.client.gate.hospital import STUDY, ask_round, make_hospital, put
from tests.client.tiny_site import watching

ASKED = Request("train", "demo", "ab", 1, 2)
SAID = Reply("north", "ab", 1, 2, 7, {"encoder.w": np.ones(3, np.float32)}, {"train/loss": 0.5})


def states(folder: Path) -> list[str]:
    return [entry.state for entry in read_outbox(folder)]


def test_an_answer_that_left_is_listed_with_its_hash_and_names_and_no_number_of_it(tmp_path: Path) -> None:
    note_left(tmp_path, ASKED, SAID)
    (entry,) = read_outbox(tmp_path)
    told = entry.as_json()
    assert told["sha256"] == hash_tensors(SAID.tensors)
    assert (told["run"], told["study"], told["stage"], told["round"], told["kind"]) == ("demo", "ab", 1, 2, "train")
    assert (told["bytes"], told["tensors"], told["groups"]) == (12, 1, ["encoder"])
    assert (told["metrics"], told["cases"], told["state"]) == (["train/loss"], 7, "left")
    assert "0.5" not in (tmp_path / FILE).read_text()


def test_one_without_tensors_and_metrics_is_not(tmp_path: Path) -> None:
    note_left(tmp_path, Request("hello"), Reply("north"))
    assert read_outbox(tmp_path) == []


def test_groups_of_a_sparse_update_are_those_of_the_network(tmp_path: Path) -> None:
    sparse = {"places.encoder.w": np.ones(1, np.int32), "values.encoder.w": np.ones(1, np.float16)}
    note_left(tmp_path, ASKED, replace(SAID, tensors=sparse))
    assert read_outbox(tmp_path)[0].line["groups"] == ["encoder"]


def test_all_that_a_hospital_sends_is_listed(tmp_path: Path) -> None:
    site_file = make_hospital(tmp_path / "north")
    hello = Request("hello", study_hash=STUDY.hash())
    train, evaluate = ask_round(), replace(ask_round(), action="evaluate", splits=("validation",))
    answers = [put(site_file, request) for request in (hello, train, evaluate, train)]
    sent = [each for each in answers if isinstance(each, Reply) and (each.tensors or each.metrics)]
    found = [(each.line["kind"], each.line["sha256"], each.line["bytes"]) for each in read_outbox(site_file.parent)]
    assert [(sha256, size) for _, sha256, size in found] == [
        (hash_tensors(each.tensors), count_bytes(each.tensors)) for each in sent
    ]
    assert [kind for kind, _, _ in found] == ["train", "evaluate", "train"]


@pytest.mark.parametrize("failure", ["damaged", "full"])
def test_nothing_leaves_that_cannot_be_listed(tmp_path: Path, failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    site_file = make_hospital(tmp_path / "north")
    if failure == "damaged":
        (site_file.parent / FILE).write_text("damaged\n")
    else:

        def fail(*_: object) -> None:
            raise StorageError("full")

        monkeypatch.setattr(outbox, "add_rotating", fail)
    expected = {"damaged": CheckpointError.code, "full": StorageError.code}[failure]
    assert put(site_file, ask_round()) == Refusal(expected)


def test_a_held_update_is_trained_once_and_leaves_when_it_is_released(tmp_path: Path) -> None:
    site_file, north = make_hospital(tmp_path / "north", "hold = true"), tmp_path / "north"
    with watching() as steps:
        assert put(site_file, ask_round()) == Refusal("HELD")
        trained = len(steps)
        assert put(site_file, ask_round()) == Refusal("HELD")
        assert states(north) == ["waiting"]
        decide(north, 1, "released", "jane")
        answer = put(site_file, ask_round())
    assert trained == len(steps) > 0, "once"
    assert isinstance(answer, Reply)
    held, left = read_outbox(north)
    assert held.line["sha256"] == left.line["sha256"] == hash_tensors(answer.tensors)
    assert (held.state, held.by, left.state) == ("released", "jane", "left")
    audit = [line["event"] for line in read_audit(north)[0]]
    assert audit == ["approved", "received", "held", "received", "let go", "received", "answered"]


def test_what_was_released_is_that_update_and_no_other(tmp_path: Path) -> None:
    with pytest.raises(HeldError):
        require_release(tmp_path, ASKED, SAID)
    decide(tmp_path, 1, "released", "jane")
    require_release(tmp_path, ASKED, SAID)
    others = [
        replace(SAID, tensors={"encoder.w": np.zeros(3, np.float32)}),
        replace(SAID, cases=8),
        replace(SAID, metrics={"train/loss": 0.6}),
    ]
    for other in others:
        with pytest.raises(HeldError):
            require_release(tmp_path, ASKED, other)
    assert states(tmp_path) == ["released", "replaced", "replaced", "waiting"]


def test_what_was_declined_stays_for_that_round_and_no_other(tmp_path: Path) -> None:
    site_file, north = make_hospital(tmp_path / "north", "hold = true"), tmp_path / "north"
    put(site_file, ask_round())
    decide(north, 1, "declined", "jane", "The cohort is under review.")
    assert put(site_file, ask_round()) == Refusal("DECLINED")
    assert put(site_file, ask_round(2)) == Refusal("HELD")
    with pytest.raises(DeclinedError):
        require_release(north, replace(ASKED, run="run", round=1), SAID)
    assert read_outbox(north)[0].reason == "The cohort is under review."


def test_evaluations_and_greetings_wait_for_nobody(tmp_path: Path) -> None:
    site_file = make_hospital(tmp_path / "north", "hold = true")
    assert isinstance(put(site_file, Request("hello", study_hash=STUDY.hash())), Reply)
    evaluate = replace(ask_round(), action="evaluate", splits=("validation",))
    assert isinstance(put(site_file, evaluate), Reply)
