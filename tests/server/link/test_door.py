"""Who gets what at the door; each refusal is in the coordinator's audit."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_push_object_fn_protobuf
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient

from prostafed.common.shell.chained_file import read_chained
from prostafed.common.shell.keys import create_node_key
from prostafed.server.link import door, serving
from prostafed.server.link.link import Link, revoke_site
from prostafed.server.link.superlink import take_up_run

from .knocking import activate, open_fleet, open_stranger, read_key, running_link


@pytest.fixture
def link(tmp_path: Path) -> Iterator[tuple[Link, str]]:
    with running_link(tmp_path, "north", "south") as running:
        yield running


def list_refused(link: Link) -> list[tuple[str, str]]:
    return [
        (line["asked"], line["why"]) for line in read_chained(link.home / "door.jsonl") if line["event"] == "refused"
    ]


def take_up(link: Link) -> tuple[Grid, Context]:
    ticket = link.superlink.begin_run({"study": "s", "run": "r"})
    return take_up_run(link.runs.socket, ticket.token, {})


def send(grid: Grid, node: Node, text: str = "round") -> str:
    content = RecordDict({"tensors": ArrayRecord([np.zeros(4, np.float32)])})
    (message_id,) = grid.push_messages([Message(content, node.node_id, f"train.{text}", ttl=100.0)])
    return message_id


def pull(fleet: FleetHttpClient, node: Node) -> Message | None:
    found = fleet.PullMessages(PullMessagesRequest(node=node)).messages_list
    return message_from_proto(found[0]) if found else None


def answer(fleet: FleetHttpClient, node: Node, message: Message, source: Node | None = None) -> None:
    push(fleet, node, *push_head(fleet, node, message, source))


def push_head(fleet: FleetHttpClient, node: Node, message: Message, source: Node | None = None) -> tuple[Message, str]:
    """Announce an answer, and return it with the session in which its parts are sent."""
    reply = Message(RecordDict(), reply_to=message)
    reply.metadata.__dict__["_src_node_id"] = (source or node).node_id
    reply.metadata.__dict__["_message_id"] = reply.object_id
    proto = message_to_proto(remove_content_from_message(reply))
    request = PushMessagesRequest(node=node, messages_list=[proto], message_object_trees=[get_object_tree(reply)])
    return reply, fleet.PushMessages(request).session_id


def push(fleet: FleetHttpClient, node: Node, reply: Message, session_id: str) -> None:
    run_id = reply.metadata.run_id
    send_part = make_push_object_fn_protobuf(fleet.PushObject, node, run_id, session_id)
    for object_id, part in get_all_nested_objects(reply).items():
        send_part(object_id, part.deflate())


NOT_SERVED = (
    "/v1/control/list-runs",
    "/v1/control/start-run",
    "/v1/control/register-node",
    "/v1/runtime/acquire-task",
    "/v1/runtime/push-messages",
    "/v1/fleet/register-node",
    "/v1/fleet/unregister-node",
    "/v1/fleet/get-fab",
    "/v1/fleet/",
    "/v1/fleet/../control/list-runs",
    "/v1/fleet/%2e%2e/control/list-runs",
    "//v1/control/list-runs",
    "/v1/fleet/pull-messages/",
    "/begin",
    "/docs",
    "/openapi.json",
    "/",
)


def test_a_stranger_with_the_authority_gets_nothing(link: tuple[Link, str], tmp_path: Path) -> None:
    with open_stranger(tmp_path) as stranger:
        for path in NOT_SERVED:
            for method in ("POST", "GET"):
                got = stranger.request(method, f"https://{link[1]}{path}", content=b"")
                assert (got.status_code, got.content) == (404, b""), path
            link[0].door._refused.clear()
    refused = list_refused(link[0])
    assert {why for _, why in refused} == {"not served"}
    assert len(refused) >= 2 * len(NOT_SERVED) - 4  # a path that names another is written as that


def test_a_key_that_is_not_enrolled_gets_nothing(link: tuple[Link, str], tmp_path: Path) -> None:
    create_node_key(tmp_path / "west.key", "west")
    key = read_key(tmp_path / "west.key")
    with open_fleet(tmp_path, link[1], key) as fleet, pytest.raises(httpx.HTTPStatusError, match="401"):
        activate(fleet, key)
    assert list_refused(link[0]) == [("POST /v1/fleet/activate-node", "no enrolled key")]


def test_an_enrolled_key_named_by_who_does_not_hold_it_gets_nothing(link: tuple[Link, str], tmp_path: Path) -> None:
    create_node_key(tmp_path / "west.key", "west")
    key, north = read_key(tmp_path / "west.key"), read_key(tmp_path / "north.key")
    with open_fleet(tmp_path, link[1], key) as fleet:
        fleet._interceptors[0]._public_key_bytes = public_key_to_bytes(north.public_key())  # type: ignore[attr-defined]
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            activate(fleet, north)
    assert list_refused(link[0]) == [("POST /v1/fleet/activate-node", "a key that the sender does not hold")]


@pytest.mark.parametrize(("ahead_s", "is_taken"), [(3, True), (30, False), (-200, True), (-400, False)])
def test_a_clock_that_is_off_is_named(
    link: tuple[Link, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: int, is_taken: bool
) -> None:
    """Also where the door would take it, and Flower behind it would not, without a word."""
    shifted = datetime.now(UTC) + timedelta(seconds=ahead_s)
    monkeypatch.setattr("flwr.supernode.node_auth_http_interceptor.now", lambda: shifted)
    key = read_key(tmp_path / "north.key")
    with open_fleet(tmp_path, link[1], key) as fleet:
        if is_taken:
            activate(fleet, key)
        else:
            with pytest.raises(httpx.HTTPStatusError, match="401") as refusal:
                activate(fleet, key)
            assert refusal.value.response.text == "clock"


def test_a_revoked_site_gets_nothing_from_then_on(link: tuple[Link, str], tmp_path: Path) -> None:
    key = read_key(tmp_path / "north.key")
    with open_fleet(tmp_path, link[1], key) as fleet:
        node = activate(fleet, key)
        grid, _ = take_up(link[0])
        assert {each.name for each in grid.get_nodes()} == {"north"}
        revoke_site(link[0].home, "north")
        assert list(grid.get_nodes()) == []
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            pull(fleet, node)
    events = [line["event"] for line in read_chained(link[0].home / "door.jsonl")]
    assert events == ["revoked", "refused"]


def test_no_bundle_is_handed_out(link: tuple[Link, str], tmp_path: Path) -> None:
    key = read_key(tmp_path / "north.key")
    with open_fleet(tmp_path, link[1], key) as fleet:
        node = activate(fleet, key)
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            fleet.GetFab(GetFabRequest(node=node, hash_str="0" * 64, run_id=1))


def test_a_site_cannot_answer_for_another(link: tuple[Link, str], tmp_path: Path) -> None:
    keys = {name: read_key(tmp_path / f"{name}.key") for name in ("north", "south")}
    with open_fleet(tmp_path, link[1], keys["north"]) as north, open_fleet(tmp_path, link[1], keys["south"]) as south:
        nodes = {"north": activate(north, keys["north"]), "south": activate(south, keys["south"])}
        grid, _ = take_up(link[0])
        send(grid, nodes["north"])
        message = pull(north, nodes["north"])
        assert message is not None
        with pytest.raises(httpx.HTTPStatusError, match="403"):
            answer(south, nodes["south"], message, source=nodes["north"])
        with pytest.raises(httpx.HTTPStatusError, match="403"):
            answer(south, nodes["north"], message)
    assert list_refused(link[0]) == [
        ("POST /v1/fleet/push-messages", "south: an answer in the name of another site"),
    ]


def test_work_is_handed_out_at_once_and_again_to_a_site_cut_off(link: tuple[Link, str], tmp_path: Path) -> None:
    key = read_key(tmp_path / "north.key")
    with open_fleet(tmp_path, link[1], key) as fleet:
        node = activate(fleet, key)
        grid, _ = take_up(link[0])
        held: list[Message | None] = []
        asking = threading.Thread(target=lambda: held.append(pull(fleet, node)))
        asking.start()
        message_id = send(grid, node)
        asking.join(timeout=door.HOLD_S / 2)  # it was held, and no longer than there was nothing
        assert [each.metadata.message_id for each in held if each] == [message_id]

        again = pull(fleet, node)  # whoever asks again without a word that all came has not got it
        assert again is not None
        assert again.metadata.message_id == message_id
        fleet.ConfirmMessageReceived(ConfirmMessageReceivedRequest(node=node, message_object_id=message_id))

        activate(fleet, key)  # the site was killed, and is there again
        once_more = pull(fleet, node)
        assert once_more is not None
        assert once_more.metadata.message_id == message_id
        announced = push_head(fleet, node, once_more)
        assert grid.pull_messages([message_id]) == []  # its upload is under way: nobody waits for it
        activate(fleet, key)  # it was killed in the middle of its upload
        assert [each.metadata.message_id for each in [pull(fleet, node)] if each] == [message_id]
        push(fleet, node, announced[0], "")  # the session is lost with the process
        assert [each.metadata.reply_to_message_id for each in grid.pull_messages([message_id])] == [message_id]


def test_a_message_of_a_run_that_is_over_is_not_handed_out_again(
    link: tuple[Link, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HOLD_S", 0.0)
    key = read_key(tmp_path / "north.key")
    with open_fleet(tmp_path, link[1], key) as fleet:
        node = activate(fleet, key)
        ticket = link[0].superlink.begin_run({"study": "s", "run": "r"})
        grid, _ = take_up_run(link[0].runs.socket, ticket.token, {})
        send(grid, node)
        assert pull(fleet, node) is not None
        link[0].superlink.end_run(ticket, finished=False)
        assert pull(fleet, node) is None


def test_bodies_are_bounded(link: tuple[Link, str], tmp_path: Path) -> None:
    key = read_key(tmp_path / "north.key")
    with open_fleet(tmp_path, link[1], key) as fleet:
        node = activate(fleet, key)
        with pytest.raises(httpx.HTTPStatusError, match="413"):
            fleet.PullMessages(PullMessagesRequest(node=node, message_ids=["x" * 5000]))
    with open_stranger(tmp_path) as stranger:  # and of one who is nobody not a byte is read
        assert stranger.post(f"https://{link[1]}/v1/fleet/push-object", content=b"x" * 10**6).status_code == 401
        assert stranger.post(f"https://{link[1]}/v1/join", content=b"x" * 10**6).status_code == 413


def test_one_address_is_refused_so_often_and_no_longer_listened_to(link: tuple[Link, str], tmp_path: Path) -> None:
    with open_stranger(tmp_path) as stranger:
        codes = [stranger.get(f"https://{link[1]}/{number}").status_code for number in range(door._PATIENCE + 5)]
    assert codes == [404] * door._PATIENCE + [429] * 5
    assert len(list_refused(link[0])) == door._PATIENCE


def test_silent_clients_hold_nothing_up(
    link: tuple[Link, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEADERS_S", 0.3)
    host, _, port = link[1].rpartition(":")
    context = ssl.create_default_context(cafile=tmp_path / "coordinator" / "pki" / "ca.crt")
    silent = [socket.create_connection((host, int(port))) for _ in range(20)]
    half = context.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)
    half.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\n")
    with open_stranger(tmp_path) as stranger:
        assert stranger.get(f"https://{link[1]}/health").status_code == 200
    half.settimeout(5.0)
    assert half.recv(1) == b""  # closed by the other side
    for each in silent:
        each.close()


def test_one_address_opens_so_many_connections(
    link: tuple[Link, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "FROM_ONE", 4)
    host, _, port = link[1].rpartition(":")
    context = ssl.create_default_context(cafile=tmp_path / "coordinator" / "pki" / "ca.crt")
    opened = [context.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host) for _ in range(4)]
    with open_stranger(tmp_path) as stranger, pytest.raises(httpx.TransportError):
        stranger.get(f"https://{link[1]}/health")
    opened[0].close()
    deadline = time.monotonic() + 5
    while True:
        try:
            with open_stranger(tmp_path) as stranger:
                assert stranger.get(f"https://{link[1]}/health").status_code == 200
            break
        except httpx.TransportError:
            assert time.monotonic() < deadline
    for each in opened:
        each.close()


def test_the_coordinators_files_name_no_secret(link: tuple[Link, str]) -> None:
    state = json.loads((link[0].home / "link.json").read_text())
    assert state.keys() == {"address", "control"}
    assert Path(state["control"]).stat().st_mode & 0o077 == 0
    assert Path(state["control"]).parent.stat().st_mode & 0o077 == 0


def test_an_answer_that_is_far_larger_than_its_question_is_not_taken(
    link: tuple[Link, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "BESIDE", 10)
    key = read_key(tmp_path / "north.key")
    with open_fleet(tmp_path, link[1], key) as fleet:
        node = activate(fleet, key)
        grid, _ = take_up(link[0])
        send(grid, node)
        message = pull(fleet, node)
        assert message is not None
        with pytest.raises(httpx.HTTPStatusError, match="413"):
            answer(fleet, node, message)
    assert list_refused(link[0]) == [("POST /v1/fleet/push-object", "north: more than an answer may have")]


def test_parts_of_an_answer_to_nothing_are_not_taken(link: tuple[Link, str], tmp_path: Path) -> None:
    key = read_key(tmp_path / "north.key")
    with open_fleet(tmp_path, link[1], key) as fleet:
        request = PushObjectRequest(node=activate(fleet, key), object_id="0" * 64, object_content=b"x")
        with pytest.raises(httpx.HTTPStatusError, match="409"):
            fleet.PushObject(request)
    assert list_refused(link[0]) == []
