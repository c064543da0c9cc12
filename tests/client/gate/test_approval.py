"""Nothing is answered that no person of the hospital approved, and only what is at the site says who did."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prostafed.client.gate.approval import count_used, digest_initial, require_approval
from prostafed.client.gate.approval_file import list_approved, read_approval, withdraw
from prostafed.client.gate.audit import read_audit
from prostafed.client.gate.waiting import list_waiting
from prostafed.common.errors import ApprovalError, ApprovalOverError, InitialError, ProstafedError
from prostafed.common.exchange.kinds import REFUSALS
from prostafed.common.exchange.messages import Request
from prostafed.common.secagg.records import Call, Enrolled
from prostafed.common.study import parse_study
from tests.client.gate.approved import approve, day, write_keyed_site
from tests.client.tiny_site import FINETUNE, make_study

STUDY = make_study(FINETUNE)
HASH = STUDY.hash()


def ask(action: str = "train", run: str = "run", stage: int = 1, number: int = 1, shift: float = 0.0) -> Request:
    tensors = {name: np.full(4, shift, np.float32) for name in ("encoder.a", "encoder.b", "head.a")}
    return Request(action, run, HASH, stage, number, tensors)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return write_keyed_site(tmp_path / "north")


def approval_of(site: Path) -> Path:
    return site.parent / "approvals" / f"{HASH}.json"


def said(site: Path) -> list[tuple[str, str]]:
    lines, wrong = read_audit(site.parent)
    assert not wrong
    return [(line["event"], line.get("code", "")) for line in lines]


@pytest.mark.parametrize("action", ["hello", "train", "evaluate"])
def test_without_an_approval_nothing_is_answered_and_the_study_waits(site: Path, action: str) -> None:
    for _ in range(2):
        with pytest.raises(ApprovalError, match=f"waits for approval: prostafed-site approve {HASH[:12]}") as raised:
            require_approval(site, STUDY, ask(action))
        assert raised.value.code == "NOT_APPROVED"
    waiting = list_waiting(site.parent)[HASH]
    assert (waiting.study, waiting.asked, waiting.coordinator) == (STUDY, 2, "fl.example.org:8000")
    assert said(site) == [("request", "")]


def test_what_was_approved_is_answered_and_waits_no_longer(site: Path) -> None:
    with pytest.raises(ApprovalError):
        require_approval(site, STUDY, ask("hello"))
    approve(site, STUDY)
    for action in ("hello", "train", "evaluate"):
        require_approval(site, STUDY, ask(action))
    assert not list_waiting(site.parent)
    assert said(site) == [("request", ""), ("approved", "")]


def test_another_study_is_not_approved_with_it(site: Path) -> None:
    approve(site, STUDY)
    other = make_study({**FINETUNE, "epochs": 3})
    with pytest.raises(ApprovalError):
        require_approval(site, other, ask())
    assert list(list_waiting(site.parent)) == [other.hash()]


@given(place=st.integers(0, len(STUDY.canonical()) - 1), letter=st.sampled_from('0123456789abcxyz-_,.:{}[]" '))
@settings(max_examples=60, deadline=None)
def test_one_changed_byte_makes_another_study(place: int, letter: str) -> None:
    text = STUDY.canonical()
    changed = text[:place] + letter + text[place + 1 :]
    try:
        study = parse_study(changed)
    except (ProstafedError, ValueError):
        return
    assert (study.hash() == HASH) == (changed == text)


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_changed_byte_in_the_file_makes_it_none(keyed: tuple[Path, bytes], data: st.DataObject) -> None:
    site, content = keyed
    place, other = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 255))
    approval_of(site).write_bytes(content[:place] + bytes([content[place] ^ other]) + content[place + 1 :])
    with pytest.raises(ApprovalError, match="is none of this site"):
        read_approval(site, HASH)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    site = write_keyed_site(tmp_path_factory.mktemp("site") / "north")
    approve(site, STUDY)
    assert read_approval(site, HASH)
    return site, approval_of(site).read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content + b" ",
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: json.dumps(json.loads(content)).encode(),
        lambda content: content.replace(b'"rounds": 2', b'"rounds": 200'),
        lambda content: content.replace(b'"rounds": 2', b'"rounds": 2, "rounds": 2'),
        lambda content: content.replace(b'"signature": "', b'"signature": "00'),
        lambda content: re.sub(rb'(?<="signature": ")\w+', lambda found: found[0].upper(), content),
        lambda content: content.replace(b"What leaves: 3 MB.", b"What leaves: nothing."),
    ],
)
def test_a_file_in_another_form_is_none_and_that_stands_in_the_audit(site: Path, change) -> None:
    approve(site, STUDY)
    content = approval_of(site).read_bytes()
    approval_of(site).write_bytes(change(content))
    with pytest.raises(ApprovalError, match="is none of this site"):
        require_approval(site, STUDY, ask())
    assert said(site)[-2:] == [("refused", "NOT_APPROVED"), ("request", "")]
    assert list(list_waiting(site.parent)) == [HASH]
    assert isinstance(list_approved(site)[HASH], str)


def test_another_sites_signature_is_none(site: Path, tmp_path: Path) -> None:
    other = write_keyed_site(tmp_path / "south")
    approve(other, STUDY)
    shutil.copytree(other.parent / "approvals", site.parent / "approvals")
    with pytest.raises(ApprovalError, match="signed with another key"):
        require_approval(site, STUDY, ask())
    require_approval(other, STUDY, ask())


def test_an_approval_under_another_studys_hash_is_none(site: Path) -> None:
    other = make_study({**FINETUNE, "epochs": 3})
    approve(site, STUDY)
    approval_of(site).rename(approval_of(site).with_name(f"{other.hash()}.json"))
    with pytest.raises(ApprovalError, match="it is for another study"):
        require_approval(site, other, ask())


def test_it_holds_to_the_end_of_its_last_day(site: Path) -> None:
    approve(site, STUDY, until=day(0))
    require_approval(site, STUDY, ask())
    approve(site, STUDY, until=day(-1))
    for action in ("hello", "train", "evaluate"):
        with pytest.raises(ApprovalOverError, match=f"ended on {day(-1)}") as raised:
            require_approval(site, STUDY, ask(action))
    assert raised.value.code == "APPROVAL_OVER"
    assert list(list_waiting(site.parent)) == [HASH], "a person sees that it is asked for again"


def test_what_is_withdrawn_is_answered_no_more_until_approved_again(site: Path) -> None:
    withdraw(site, approve(site, STUDY))
    for action in ("hello", "train", "evaluate"):
        with pytest.raises(ApprovalOverError, match="was withdrawn at"):
            require_approval(site, STUDY, ask(action))
    approve(site, STUDY)
    require_approval(site, STUDY, ask())
    assert [event for event, _ in said(site)] == ["approved", "withdrawn", "request", "approved"]


def test_its_rounds_are_used_up_whatever_the_run_is_called(site: Path) -> None:
    approval = approve(site, STUDY, rounds=3)
    require_approval(site, STUDY, ask(run="a", number=1))
    require_approval(site, STUDY, ask(run="a", number=2))
    require_approval(site, STUDY, ask(run="b", number=1))
    assert count_used(site, approval) == 3
    for request in (ask(run="c"), ask(run="a", number=3), ask(run="a", stage=2), ask(run="a", shift=1.0)):
        with pytest.raises(ApprovalOverError, match="is used up: 3 of 3 rounds"):
            require_approval(site, STUDY, request)


def test_the_same_request_again_and_evaluations_use_nothing(site: Path) -> None:
    approval = approve(site, STUDY, rounds=1)
    for _ in range(3):
        require_approval(site, STUDY, ask())
        require_approval(site, STUDY, ask("evaluate", number=2))
        require_approval(site, STUDY, ask("hello"))
    assert count_used(site, approval) == 1
    assert count_used(site, approve(site, STUDY)) == 0, "a new approval begins anew"


def test_not_ever_other_models_are_evaluated(site: Path) -> None:
    """Who may ask about any number of models can tell patients apart by the answers."""
    approval = approve(site, STUDY, rounds=2)
    for shift in range(4):
        require_approval(site, STUDY, ask("evaluate", shift=float(shift)))
    with pytest.raises(ApprovalOverError, match="used up: 4 models were evaluated"):
        require_approval(site, STUDY, ask("evaluate", shift=4.0))
    with pytest.raises(ApprovalOverError):
        require_approval(site, STUDY, ask("evaluate", run="other"))
    require_approval(site, STUDY, ask("evaluate", shift=3.0))  # the same again is no other
    require_approval(site, STUDY, ask())
    assert count_used(site, approval) == 1


def test_rounds_are_told_apart_by_all_of_their_hash(site: Path) -> None:
    """Two sets of weights with half a hash in common can be found, and the second would be a round for nothing."""
    approve(site, STUDY)
    require_approval(site, STUDY, ask())
    (used,) = json.loads((site.parent / "approvals" / f"{HASH}.used.json").read_text())
    assert len(used.rpartition("/")[2]) == 64


@pytest.mark.parametrize("content", ["{}", "[1]", "", "[", '{"a": 1}'])
def test_where_the_count_is_damaged_nothing_is_trained(site: Path, content: str) -> None:
    approve(site, STUDY)
    require_approval(site, STUDY, ask())
    approval_of(site).with_suffix(".used.json").write_text(content)
    with pytest.raises(ApprovalOverError, match="which counts its rounds, is damaged"):
        require_approval(site, STUDY, ask())
    approve(site, STUDY)
    require_approval(site, STUDY, ask())


def test_training_starts_from_the_weights_that_were_shown(site: Path) -> None:
    approve(site, STUDY, initial_digest=digest_initial(ask().tensors), rounds=9)
    require_approval(site, STUDY, ask())
    require_approval(site, STUDY, ask(shift=1.0, number=2))
    require_approval(site, STUDY, ask("evaluate", shift=1.0))
    request = ask()
    other_head = {**request.tensors, "head.a": np.ones(4, np.float32)}
    require_approval(site, STUDY, replace(request, tensors=other_head))
    other = {**request.tensors, "encoder.b": np.ones(4, np.float32)}
    approval = read_approval(site, HASH)
    assert approval
    used = count_used(site, approval)
    for tensors in (other, {}, {name: request.tensors[name] for name in ("encoder.a", "head.a")}):
        with pytest.raises(InitialError) as raised:
            require_approval(site, STUDY, replace(request, tensors=tensors))
        assert raised.value.code in REFUSALS
    assert count_used(site, approval) == used, "what is refused uses no round"


def test_what_the_file_does_not_hold_is_not_compared(site: Path) -> None:
    left_out = ("encoder.b",)
    approve(site, STUDY, initial_digest=digest_initial(ask().tensors, left_out), initial_left_out=left_out)
    request = ask()
    other = {**request.tensors, "encoder.b": np.ones(4, np.float32)}
    require_approval(site, STUDY, replace(request, tensors=other))
    with pytest.raises(InitialError):
        require_approval(site, STUDY, replace(request, tensors={**other, "encoder.a": np.ones(4, np.float32)}))


def test_a_site_without_a_key_approves_nothing(tmp_path: Path) -> None:
    site = write_keyed_site(tmp_path)
    site.with_name("north.key").unlink()
    with pytest.raises(ProstafedError, match="Cannot read the site's private key"):
        approve(site, STUDY)
    site.write_text('name = "north"\n')
    with pytest.raises(ProstafedError, match=r"the table \[server\] is missing"):
        approve(site, STUDY)
    assert not (tmp_path / "approvals" / f"{HASH}.json").exists()


MASKED = make_study(FINETUNE, privacy={"secure_aggregation": True})
PEERS = {"north": "ecdsa-sha2-nistp384 AAAA", "south": "ecdsa-sha2-nistp384 BBBB"}


def ask_masked(action: str, peers: dict[str, str]) -> Request:
    call = Call(number="0" * 64, digest="0" * 64, enrolled=peers)
    masks = Enrolled(sites=peers).pack() if action == "hello" else call.pack()
    return Request(action, "" if action == "hello" else "run", MASKED.hash(), 1, 1, masks=masks)


@pytest.mark.parametrize("action", ["hello", "keys"])
def test_whom_a_study_masks_with_waits_beside_it_and_a_newcomer_is_said(site: Path, action: str) -> None:
    with pytest.raises(ApprovalError):
        require_approval(site, MASKED, ask_masked(action, PEERS))
    assert list_waiting(site.parent)[MASKED.hash()].peers == PEERS
    approve(site, MASKED, peers=PEERS)
    assert require_approval(site, MASKED, ask_masked(action, PEERS)).peers == PEERS
    assert not list_waiting(site.parent), "nothing has changed"
    more = {**PEERS, "west": "ecdsa-sha2-nistp384 CCCC"}
    assert require_approval(site, MASKED, ask_masked(action, more)).peers == PEERS, "a person decides"
    assert list_waiting(site.parent)[MASKED.hash()].peers == more


@pytest.mark.parametrize("action", ["keys", "shares", "agree", "unmask"])
def test_what_is_said_about_masks_needs_an_approval_and_counts_as_no_round(site: Path, action: str) -> None:
    asked = Request(action, "run", MASKED.hash(), 1, 1, masks=b"{}")
    with pytest.raises(ApprovalError):
        require_approval(site, MASKED, asked)
    approval = approve(site, MASKED, rounds=1)
    for _ in range(3):
        require_approval(site, MASKED, asked)
    assert count_used(site, approval) == 0
