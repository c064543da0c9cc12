"""An enrolled hospital that is hostile to the coordinator and to the others: Flower's own client, and forged parts."""

import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, iterate_object_tree
from flwr.supernode.fleet_http_client import FleetHttpClient

from prostafed.server.link import door
from prostafed.server.link.link import Link

from .knocking import activate, open_fleet, read_key, running_link
from .test_door import list_refused, pull, push, push_head, send, take_up


@pytest.fixture
def link(tmp_path: Path) -> Iterator[tuple[Link, str]]:
    with running_link(tmp_path, "north", "south") as running:
        yield running


@pytest.fixture
def two(link: tuple[Link, str], tmp_path: Path) -> Iterator[tuple[Link, Sequence[tuple[FleetHttpClient, Node]], Grid]]:
    """A link with a run, and two sites that are there: south is the hostile one."""
    keys = [read_key(tmp_path / f"{name}.key") for name in ("north", "south")]
    with open_fleet(tmp_path, link[1], keys[0]) as north, open_fleet(tmp_path, link[1], keys[1]) as south:
        sites = [(north, activate(north, keys[0])), (south, activate(south, keys[1]))]
        yield link[0], sites, take_up(link[0])[0]


def name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def announce(fleet: FleetHttpClient, node: Node, asked: Message, tree: ObjectTree, reply_to: str = "") -> Sequence[str]:
    """Announce an answer with a tree of one's own, and return what the coordinator wants of it."""
    reply = Message(RecordDict(), reply_to=asked)
    reply.metadata.__dict__["_src_node_id"] = node.node_id
    reply.metadata.__dict__["_message_id"] = tree.object_id
    proto = message_to_proto(remove_content_from_message(reply))
    proto.metadata.reply_to_message_id = reply_to or proto.metadata.reply_to_message_id
    request = PushMessagesRequest(node=node, messages_list=[proto], message_object_trees=[tree])
    return fleet.PushMessages(request).objects_to_push


def test_a_tree_that_doubles_at_each_step_stops_nobody(
    two: tuple[Link, Sequence[tuple[FleetHttpClient, Node]], Grid],
) -> None:
    _, (_, (south, node)), grid = two
    message_id = send(grid, node)
    asked = pull(south, node)
    assert asked is not None
    steps = [ObjectTree(object_id=name("0"))]
    for number in range(1, 60):  # each names the one before twice, which is there already: 2^59 in all
        leaf = ObjectTree(object_id=name(str(number - 1)))
        steps.append(ObjectTree(object_id=name(str(number)), children=[leaf, leaf]))
    announce(south, node, asked, ObjectTree(object_id=name("root"), children=steps))
    looked = threading.Thread(target=lambda: list(grid.pull_messages([message_id])), daemon=True)
    looked.start()
    looked.join(timeout=5.0)
    assert not looked.is_alive()


def test_a_part_that_another_names_with_more_inside_holds_no_request_up(
    two: tuple[Link, Sequence[tuple[FleetHttpClient, Node]], Grid],
) -> None:
    _, ((north, other), (south, node)), grid = two
    part = ConfigRecord({"names": ["encoder.weight"]})  # as every request and every answer of a stage has one
    send(grid, node)
    asked = pull(south, node)
    assert asked is not None
    never = ObjectTree(object_id=name("never"))
    poison = ObjectTree(object_id=part.object_id, children=[never])
    announce(south, node, asked, ObjectTree(object_id=name("root"), children=[poison]))

    (message_id,) = grid.push_messages([Message(RecordDict({"layout": part}), other.node_id, "train.round", ttl=100.0)])
    (tree,) = north.PullMessages(PullMessagesRequest(node=other)).message_object_trees
    names = {each.object_id for each in iterate_object_tree(tree)}
    assert part.object_id in names
    assert never.object_id not in names
    for each in names:
        got = north.PullObject(PullObjectRequest(node=other, run_id=asked.metadata.run_id, object_id=each))
        assert got.object_available
    assert message_id == tree.object_id


def test_a_part_that_another_names_with_more_inside_holds_no_answer_up(
    two: tuple[Link, Sequence[tuple[FleetHttpClient, Node]], Grid],
) -> None:
    _, ((north, other), (south, node)), grid = two
    send(grid, node)
    message_id = send(grid, other, "other")
    asked, honest = pull(south, node), pull(north, other)
    assert asked is not None
    assert honest is not None
    part = RecordDict().object_id  # the answer of `push` holds one
    poison = ObjectTree(object_id=part, children=[ObjectTree(object_id=name("never"))])
    announce(south, node, asked, ObjectTree(object_id=name("root"), children=[poison]))
    push(north, other, *push_head(north, other, honest))
    assert [each.metadata.reply_to_message_id for each in grid.pull_messages([message_id])] == [message_id]


def test_a_site_is_given_no_part_that_is_not_its_own(
    two: tuple[Link, Sequence[tuple[FleetHttpClient, Node]], Grid],
) -> None:
    _, ((north, other), (south, node)), grid = two
    send(grid, node, "mine")
    message_id = send(grid, other)
    asked, honest = pull(south, node), pull(north, other)
    assert asked is not None
    assert honest is not None
    head, session = push_head(north, other, honest)
    push(north, other, head, session)
    for each in (*get_all_nested_objects(head), message_id):  # it may have guessed how many cases another has
        got = south.PullObject(PullObjectRequest(node=node, run_id=asked.metadata.run_id, object_id=each))
        assert not got.object_found


def test_asking_twice_for_a_part_makes_no_room_for_a_larger_answer(
    two: tuple[Link, Sequence[tuple[FleetHttpClient, Node]], Grid], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "BESIDE", 0)
    _, (_, (south, node)), grid = two
    send(grid, node)
    asked = pull(south, node)
    assert asked is not None
    for _ in range(50):
        south.PullObject(
            PullObjectRequest(node=node, run_id=asked.metadata.run_id, object_id=asked.metadata.message_id)
        )
    with pytest.raises(httpx.HTTPStatusError, match="413"):
        south.PushObject(PushObjectRequest(node=node, object_id=name("x"), object_content=b"x" * 5000))


def test_what_answers_nothing_is_not_taken_and_not_logged(
    two: tuple[Link, Sequence[tuple[FleetHttpClient, Node]], Grid], caplog: pytest.LogCaptureFixture
) -> None:
    link, (_, (south, node)), grid = two
    send(grid, node)
    asked = pull(south, node)
    assert asked is not None
    tree = ObjectTree(object_id=name("root"))
    with caplog.at_level(logging.INFO):
        with pytest.raises(httpx.HTTPStatusError, match="409"):
            announce(south, node, asked, tree, reply_to=name("nothing"))
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            announce(south, node, asked, tree, reply_to="\x1b[2J" * 10**6)
        many = [ObjectTree(object_id=name(str(number))) for number in range(5000)]
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            announce(south, node, asked, ObjectTree(object_id=name("root"), children=many))
    assert "\x1b" not in caplog.text
    assert list_refused(link) == [("POST /v1/fleet/push-messages", "south: an answer that cannot be read")]


def test_an_answer_that_was_taken_is_not_taken_again(
    two: tuple[Link, Sequence[tuple[FleetHttpClient, Node]], Grid],
) -> None:
    """A site whose word was taken, and who was not told so, says it again: 409 tells it that nobody waits."""
    _, (_, (south, node)), grid = two
    message_id = send(grid, node)
    asked = pull(south, node)
    assert asked is not None
    push(south, node, *push_head(south, node, asked))
    south.ConfirmMessageReceived(ConfirmMessageReceivedRequest(node=node, message_object_id=message_id))
    assert len(list(grid.pull_messages([message_id]))) == 1
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        push_head(south, node, asked)
