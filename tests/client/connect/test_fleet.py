"""The Fleet API as a site speaks it: what a coordinator may send, and what comes of anything else."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import certifi
import httpx
import numpy as np
import pytest
from flwr.app import Message
from flwr.common.serde import user_config_to_proto
from flwr.proto.fleet_pb2 import ActivateNodeResponse, PullMessagesResponse, PushMessagesResponse
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatResponse
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedResponse,
    ObjectTree,
    PullObjectRequest,
    PullObjectResponse,
    PushObjectRequest,
    PushObjectResponse,
)
from flwr.proto.run_pb2 import GetRunResponse
from flwr.proto.run_pb2 import Run as RunProto
from flwr.supercore.error import ApiErrorCode

from prostafed.client.connect import fleet as module
from prostafed.client.connect.fleet import Fleet, inflate, pack, read_announced, refuse_message
from prostafed.client.connect.reach import RefusedError, RunOverError, TooLargeError, UnreachableError
from prostafed.common.errors import ConfigurationError, HaltedError, RequestError
from prostafed.common.exchange.messages import Refusal, Reply
from prostafed.common.exchange.wire import pack_reply, unpack_reply, unpack_request

from .coordinator import ASKED, NODE, TENSORS, announce, answer, make_fleet


def serve(contents: dict[str, bytes]) -> Any:
    """Return what hands out objects by name."""

    def pull(body: bytes) -> httpx.Response:
        name = PullObjectRequest.FromString(body).object_id
        told = PullObjectResponse(object_found=True, object_available=True, object_content=contents[name])
        return httpx.Response(200, content=told.SerializeToString())

    return {"pull-object": pull}


def test_a_request_arrives_as_it_was_sent(tmp_path: Path) -> None:
    announcement, contents = announce()
    fleet = make_fleet(tmp_path, {"pull-messages": answer(announcement), **serve(contents)})
    incoming = fleet.pull()
    assert incoming is not None
    assert (incoming.kind, incoming.group, incoming.node_id) == ("evaluate.round", "2.3", NODE)
    read = unpack_request(inflate(incoming, fleet.fetch(incoming, 1 << 20)))
    assert (read.action, read.run, read.stage, read.round) == ("evaluate", "run-1", 2, 3)
    np.testing.assert_array_equal(read.tensors["encoder.weight"], TENSORS["encoder.weight"])


def test_a_coordinator_that_has_nothing_is_none(tmp_path: Path) -> None:
    assert make_fleet(tmp_path, {"pull-messages": answer(PullMessagesResponse())}).pull() is None


def test_an_answer_is_pushed_once_and_the_request_let_go(tmp_path: Path) -> None:
    announcement, contents = announce()
    incoming = read_announced(announcement.SerializeToString(), NODE)
    reply = Reply("north", "abc", 2, 3, 5, TENSORS, {"validation/cspca/auroc": 0.5})
    outgoing = pack(pack_reply(reply, inflate(incoming, contents)), incoming)
    pushed: dict[str, bytes] = {}
    wanted = sorted(outgoing.contents)[1:]  # one of them it has already

    def take(body: bytes) -> httpx.Response:
        request = PushObjectRequest.FromString(body)
        assert request.session_id == "s"
        pushed[request.object_id] = request.object_content
        return httpx.Response(200, content=PushObjectResponse(stored=True).SerializeToString())

    received = []

    def confirm(body: bytes) -> httpx.Response:
        received.append(body)
        return answer(ConfirmMessageReceivedResponse())(body)

    told = PushMessagesResponse(objects_to_push=[*wanted, "f" * 64], session_id="s")  # and one we do not have
    answers = {"push-messages": answer(told), "push-object": take, "confirm-message-received": confirm}
    make_fleet(tmp_path, answers).push(outgoing, incoming, 1.0)
    assert pushed == {name: outgoing.contents[name] for name in wanted}
    assert len(received) == 1
    assert not outgoing.refusal


def test_the_same_answer_has_the_same_name_however_often_it_is_given() -> None:
    incoming = read_announced(announce()[0].SerializeToString(), NODE)
    assert refuse_message(incoming, "RESTING") == refuse_message(incoming, "RESTING")


def test_a_refusal_needs_no_object_of_the_request() -> None:
    incoming = read_announced(announce()[0].SerializeToString(), NODE)
    outgoing = refuse_message(incoming, "RESTING")
    assert outgoing.refusal == "RESTING"
    head = hashlib.sha256(next(iter(outgoing.contents.values()))).hexdigest()
    read = module.inflate_object_from_contents(head, dict(outgoing.contents))
    assert isinstance(read, Message)
    assert unpack_reply(read, ASKED) == Refusal("RESTING")
    assert read.metadata.reply_to_message_id == incoming.message_id


def test_an_object_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    announcement, contents = announce()
    incoming = read_announced(announcement.SerializeToString(), NODE)
    forged = {name: content + b" " for name, content in contents.items()}
    with pytest.raises(RequestError, match="not what its name says"):
        make_fleet(tmp_path, serve(forged)).fetch(incoming, 1 << 20)


def test_a_request_that_is_larger_than_the_site_allows_is_refused(tmp_path: Path) -> None:
    announcement, contents = announce()
    incoming = read_announced(announcement.SerializeToString(), NODE)
    size = sum(map(len, contents.values()))
    fleet = make_fleet(tmp_path, serve(contents))
    assert fleet.fetch(incoming, size) == contents
    with pytest.raises(TooLargeError, match="largest_request_mb"):
        fleet.fetch(incoming, size - 1)


@pytest.mark.parametrize(("field", "value"), [("message_type", "query.hello"), ("group_id", "1.1"), ("run_id", 99)])
def test_a_message_that_is_another_inside_is_refused(field: str, value: Any, tmp_path: Path) -> None:
    announcement, contents = announce()
    setattr(announcement.messages_list[0].metadata, field, value)
    incoming = read_announced(announcement.SerializeToString(), NODE)
    with pytest.raises(RequestError, match="another inside"):
        make_fleet(tmp_path, serve(contents)).fetch(incoming, 1 << 20)


def damage(what: str) -> bytes:
    announcement, _ = announce()
    about, tree = announcement.messages_list[0].metadata, announcement.message_object_trees[0]
    match what:
        case "another node":
            about.dst_node_id = NODE + 1
        case "another tree":
            tree.object_id = "a" * 64
        case "no hash":
            tree.children.append(ObjectTree(object_id="../../etc/passwd"))
        case "no tree":
            del announcement.message_object_trees[:]
        case "no protobuf":
            return b"\xff\xff\xff"
    return announcement.SerializeToString()


@pytest.mark.parametrize("what", ["another node", "another tree", "no hash", "no tree", "no protobuf"])
def test_what_is_no_message_for_this_site_is_said(what: str) -> None:
    with pytest.raises(UnreachableError, match="not for this site, or cannot be read"):
        read_announced(damage(what), NODE)


def test_bytes_that_are_no_message_are_a_request_that_cannot_be_read() -> None:
    incoming = read_announced(announce()[0].SerializeToString(), NODE)
    for content in (b"", b"Message\x00", b"Nothing 0\x00", b"Message \xff 4\x00body"):
        with pytest.raises(RequestError, match="cannot be read"):
            inflate(incoming, {incoming.message_id: content})


def test_an_object_that_is_still_on_its_way_is_waited_for(tmp_path: Path) -> None:
    announcement, contents = announce()
    incoming, late, hand_out = read_announced(announcement.SerializeToString(), NODE), set[bytes](), serve(contents)

    def pull(body: bytes) -> httpx.Response:
        if body in late:
            return httpx.Response(200, content=hand_out["pull-object"](body).content)
        late.add(body)
        return answer(PullObjectResponse(object_found=True))(body)

    assert make_fleet(tmp_path, {"pull-object": pull}).fetch(incoming, 1 << 20) == contents


def flower_error(status: int, code: ApiErrorCode | None = None, text: str = "", **headers: str) -> httpx.Response:
    body = json.dumps({"code": int(code), "detail": "no"}) if code else text
    return httpx.Response(status, content=body, headers=headers)


@pytest.mark.parametrize(
    ("response", "kind", "said"),
    [
        (flower_error(412, ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED), RefusedError, "does not know this site's key"),
        (flower_error(401), RefusedError, "does not know this site's key"),
        (flower_error(403, ApiErrorCode.FLEET_RUN_STATUS_NOT_ALLOWED), RunOverError, "over"),
        (flower_error(403, ApiErrorCode.FLEET_GET_RUN_FAILED), RunOverError, "over"),
        (flower_error(503, text="<html>"), UnreachableError, "status 503"),
        (flower_error(404), UnreachableError, "status 404"),
        (flower_error(302, location="http://10.0.0.1/"), UnreachableError, "status 302"),
        (flower_error(200, text="<html>hello</html>"), UnreachableError, "is no coordinator"),
        (flower_error(401, text="clock", date="Thu, 01 Jan 2026 00:00:00 GMT"), UnreachableError, "ahead of"),
    ],
)
def test_every_answer_of_a_coordinator_is_one_of_four_errors(
    response: httpx.Response, kind: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=said):
        make_fleet(tmp_path, {"activate-node": lambda _: response}).activate()


def test_a_heartbeat_that_is_not_taken_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(RefusedError):
        make_fleet(tmp_path, {"send-node-heartbeat": answer(SendNodeHeartbeatResponse(success=False))}).heartbeat()


def test_a_new_node_id_is_used_from_then_on(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path, {"activate-node": answer(ActivateNodeResponse(node_id=11))})
    assert fleet.activate() == 11 == fleet.node_id


def test_a_part_that_is_not_taken_is_sent_again(tmp_path: Path) -> None:
    incoming = read_announced(announce()[0].SerializeToString(), NODE)
    outgoing = refuse_message(incoming, "RESTING")
    told = PushMessagesResponse(objects_to_push=list(outgoing.contents), session_id="s")
    answers = {"push-messages": answer(told), "push-object": answer(PushObjectResponse(stored=False))}
    with pytest.raises(UnreachableError, match="did not take"):
        make_fleet(tmp_path, answers).push(outgoing, incoming, 1.0)


@pytest.mark.parametrize("parts", [0, 2])
def test_an_answer_that_may_not_go_on_is_left_between_two_parts(parts: int, tmp_path: Path) -> None:
    announcement, contents = announce()
    incoming = read_announced(announcement.SerializeToString(), NODE)
    reply = Reply("north", "abc", 2, 3, 5, TENSORS, {"validation/cspca/auroc": 0.5})
    outgoing = pack(pack_reply(reply, inflate(incoming, contents)), incoming)
    pushed, confirmed, asked = list[str](), list[bytes](), list[int]()

    def take(body: bytes) -> httpx.Response:
        pushed.append(PushObjectRequest.FromString(body).object_id)
        return answer(PushObjectResponse(stored=True))(body)

    def may_go() -> None:
        asked.append(1)
        if len(asked) > parts:
            raise HaltedError("halted")

    told = PushMessagesResponse(objects_to_push=list(outgoing.contents), session_id="s")
    answers = {"push-messages": answer(told), "push-object": take, "confirm-message-received": confirmed.append}
    with pytest.raises(HaltedError):
        make_fleet(tmp_path, answers).push(outgoing, incoming, 1.0, may_go)  # type: ignore[arg-type]
    assert len(pushed) <= parts < len(outgoing.contents)
    assert not confirmed


@pytest.mark.parametrize("again", [True, False])
def test_the_rest_of_an_answer_is_sent_where_a_link_was_killed_over_it(again: bool, tmp_path: Path) -> None:
    pushed = []

    def take(body: bytes) -> httpx.Response:
        pushed.append(PushObjectRequest.FromString(body).session_id)
        return answer(PushObjectResponse(stored=False))(body)  # it has it, or nobody waits for it

    answers = {
        "activate-node": answer(ActivateNodeResponse(node_id=NODE)),
        "pull-messages": answer(announce()[0]),
        "push-messages": answer(PushMessagesResponse()),
        "push-object": take,
        "confirm-message-received": answer(ConfirmMessageReceivedResponse()),
    }
    fleet = make_fleet(tmp_path, answers)
    if again:
        fleet.activate()
    incoming = fleet.pull()
    assert incoming is not None
    fleet.push(refuse_message(incoming, "RESTING"), incoming, 1.0)
    assert pushed == ([""] if again else [])


@pytest.mark.parametrize("which", ["ca.crt", "site.key"])
def test_a_file_that_is_none_is_said(which: str, tmp_path: Path) -> None:
    make_fleet(tmp_path, {})
    (tmp_path / which).write_text("no such thing")
    authority = tmp_path / "ca.crt" if which == "ca.crt" else Path(certifi.where())
    with pytest.raises(ConfigurationError, match=which.replace(".", r"\.")):
        Fleet("localhost:1", authority, tmp_path / "site.key")


ODD = {
    "deep": b"[" * 60_000,
    "a list": b"[]",
    "a large number": b'{"code": ' + b"9" * 60_000 + b', "detail": "x"}',
    "no text": b"\xff\xfe\x00",
    "no code": b'{"code": 99999, "detail": "no"}',
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
@pytest.mark.parametrize("status", [200, 403, 500])
def test_an_answer_of_any_form_ends_no_link(status: int, body: bytes, tmp_path: Path) -> None:
    odd = {
        "activate-node": lambda _: httpx.Response(
            status, content=body, headers={"content-type": "text/html; charset=x"}
        )
    }
    with pytest.raises((UnreachableError, RefusedError)):
        make_fleet(tmp_path, odd).activate()


def test_an_answer_that_nobody_waits_for_is_dropped(tmp_path: Path) -> None:
    with pytest.raises(RunOverError):
        make_fleet(tmp_path, {"activate-node": lambda _: httpx.Response(409)}).activate()


@pytest.mark.parametrize("field", ["message_type", "group_id"])
@pytest.mark.parametrize("text", ["\x1b[2J", "x" * 10**6, "1.1\n2026-01-01 INFO nothing happened"])
def test_what_would_end_in_a_log_is_short_and_printable(field: str, text: str) -> None:
    announcement, _ = announce()
    setattr(announcement.messages_list[0].metadata, field, text)
    with pytest.raises(UnreachableError, match="cannot be read"):
        read_announced(announcement.SerializeToString(), NODE)


def test_of_a_run_nothing_is_kept_but_its_study_and_its_name(tmp_path: Path) -> None:
    config: dict[str, Any] = {"study": "{}", "run": "a\x1b[2J" + "b" * 1000, "other": "x" * 10**6}
    run = RunProto(run_id=1, fab_hash="f", override_config=user_config_to_proto(config))
    fleet = make_fleet(tmp_path, {"get-run": answer(GetRunResponse(run=run))})
    incoming = read_announced(announce()[0].SerializeToString(), NODE)
    found = fleet.run_of(incoming)
    assert found.bundle == "f"
    assert found.config == {"study": "{}", "run": "a?[2J" + "b" * 95}

    config["study"], run.run_id = "x" * (module._LONGEST_STUDY + 1), 2
    run = RunProto(run_id=1, fab_hash="f", override_config=user_config_to_proto(config))
    other = make_fleet(tmp_path / "other", {"get-run": answer(GetRunResponse(run=run))})
    assert "study" not in other.run_of(incoming).config


def test_what_is_no_tensor_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten numbers of a record take a byte each by wire, and eighty here."""
    monkeypatch.setattr(module, "MOST_BESIDE", 100)
    announcement, contents = announce()
    incoming = read_announced(announcement.SerializeToString(), NODE)
    with pytest.raises(RequestError, match="beside its tensors"):
        make_fleet(tmp_path, serve(contents)).fetch(incoming, 1 << 20)


def test_a_link_that_is_to_end_waits_for_no_coordinator(tmp_path: Path) -> None:
    program = (
        "import threading, os, signal, time\n"
        "from prostafed.client.connect.fleet import _together\n"
        "from prostafed.common.shell.processes import interrupted_by_sigterm\n"
        "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "with interrupted_by_sigterm():\n"
        "    try:\n"
        "        _together(lambda name: time.sleep(60), ['a', 'b'])\n"
        "    except KeyboardInterrupt:\n"
        "        print('left')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "left\n"
