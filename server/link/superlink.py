"""Flower's SuperLink inside this process. The only file of server/link that knows Flower's private API.

`tests/server/link/test_flower_api.py` fails where another release of Flower has moved something that is used here.
Nothing of the SuperLink listens by itself: `door.py` and `control.py` decide who reaches what. What it knows lives
as long as the process: sites are registered again from the home's public keys, and a run goes on from its checkpoint.
"""

import time
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
from flwr.app import ArrayRecord, Context, Error, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, TIMESTAMP_HEADER, SubStatus
from flwr.common.serde import run_from_proto
from flwr.proto.fleet_pb2 import PullMessagesResponse, PushMessagesRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree, PullObjectRequest
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullTaskInputRequest
from flwr.server.superlink.linkstate import InMemoryLinkState, LinkState
from flwr.serverapp import Grid
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    FLWR_IN_MEMORY_DB_NAME,
    NOOP_FEDERATION_ID,
    SYSTEM_MESSAGE_TYPE,
    TaskType,
)
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import (
    get_object_children_ids_from_object_content,
    is_valid_sha256_hash,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.object_store.object_store import NoObjectInStoreError
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig, load_control_authn_plugin
from flwr.superlink.grid import HttpGrid
from flwr.superlink.main import create_app
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from prostafed.common.errors import ConfigurationError, RoundError
from prostafed.common.exchange.app_bundle import NAME, bundle_hash, write_bundle
from prostafed.common.exchange.kinds import NODE_LOST

# What an answer may have of the bytes of its request, and beside them: control variates double what travels, and what
# is counted is small.
TIMES, BESIDE = 2.5, 16 * 1024 * 1024
MOST_PARTS = 4096  # of an answer: tensors are cut into parts of 5 MiB
_MOST_HEADER = 16 * 1024  # bytes of what stands on the outside of an answer
HEARTBEAT_S = 30.0  # of a site, and of a run's process
COMING_S, LOOK_S = 60.0, 0.02  # that a refused request may take to come, and so often it is looked whether it has
AHEAD_S = 5.0  # that a site's clock may be ahead: Flower itself takes no more, and would not say why
Asgi = Callable[[MutableMapping[str, Any], Callable[..., Any], Callable[..., Any]], Any]


@dataclass(frozen=True)
class Ticket:
    """A run the SuperLink knows: what its process needs to take part in it."""

    run_id: int
    task_id: int
    token: str


@dataclass(frozen=True)
class NodeState:
    """A registered site as the SuperLink sees it."""

    name: str
    node_id: int
    online: bool
    activated: str  # when it connected last, ISO 8601; "" = never


@dataclass(frozen=True)
class Member:
    """A registered site: the name its key is enrolled under, and Flower's number for it."""

    name: str
    node_id: int


class SuperLink:
    """Flower's SuperLink: its ASGI app, its sites and its runs."""

    def __init__(self) -> None:
        """Start with no sites, runs or messages. All of them are kept in memory: SQL made a round twice as long."""
        config = SuperLinkLifespanConfig(
            control_address="",
            health_server_address=None,
            host="",
            port=0,
            insecure=True,  # TLS is the door's
            certificates=None,
            superexec_auth_secret=None,
            authn_plugin=load_control_authn_plugin(),
            event_log_plugin=None,
            fleet_event_log_plugin=None,
            enable_event_log=False,
            artifact_provider=None,
            enable_supernode_auth=True,
            fleet_api_type="grpc-rere",
            fleet_api_address=None,
            simulation=False,
            ssl_ca_certfile=None,
            ssl_certfile=None,
            ssl_keyfile=None,
            database=FLWR_IN_MEMORY_DB_NAME,
            isolation="process",
            runtime_dependency_install=False,
        )
        app = create_app(config, SuperLinkLifespan)
        self.app: Asgi = cast(Asgi, app)
        self._state: LinkState = app.state.linkstate_factory.state()
        _trust_runs(self._state, _Parts())
        self._members: dict[bytes, Member] = {}  # by public key
        self._state.store_fab(Fab(bundle_hash(), write_bundle(), {}))

    def register(self, name: str, public_key: bytes) -> None:
        """Let the site with this key, an OpenSSH line, take part under `name`; again is no error."""
        pem = _to_pem(public_key)
        if pem not in self._members:
            node_id = self._state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, pem, HEARTBEAT_S, name=name)
            self._members[pem] = Member(name, node_id)

    def unregister(self, name: str) -> None:
        """Let nobody act under `name` any more."""
        for pem, member in list(self._members.items()):
            if member.name == name:
                del self._members[pem]
                self._state.delete_node(NOOP_FLWR_AID, member.node_id)
                # Flower lets nobody come back with a key that it has deleted; a hospital that is invited again does.
                cast(InMemoryLinkState, self._state).node_public_key_to_node_id.pop(pem, None)

    def find_member(self, pem: bytes) -> Member | None:
        """Return the site that is registered with this public key."""
        return self._members.get(pem)

    def list_nodes(self) -> list[NodeState]:
        """Return the registered sites, by name."""
        nodes = [each for each in self._state.get_node_info() if each.status != "unregistered"]
        found = [NodeState(each.name, each.node_id, each.status == "online", each.last_activated_at) for each in nodes]
        return sorted(found, key=lambda node: node.name)

    def release_node(self, node_id: int) -> None:
        """Count a node as gone, so that the same site, started again, is let in at once."""
        self._state.deactivate_node(node_id)

    def begin_run(self, values: Mapping[str, str]) -> Ticket:
        """Make a run with these run config `values` and return its ticket."""
        run_id = self._state.create_run(
            NAME, "", bundle_hash(), dict(values), NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        runs = self._state.get_run_info(run_ids=[run_id])
        task_id = runs[0].primary_task_id if runs else None
        token = self._state.claim_task(task_id) if task_id is not None else None
        if task_id is None or token is None:
            raise RoundError("Flower's SuperLink did not take the run. Its log says why: logs/link.log in the home.")
        return Ticket(run_id, task_id, token)

    def keep_run(self, ticket: Ticket) -> bool:
        """Say that the run's process lives; False where the SuperLink has given the run up."""
        return self._state.acknowledge_task_heartbeat(ticket.task_id)

    def end_run(self, ticket: Ticket, finished: bool) -> None:
        """Say that the run's process has ended; sites stop working for it at their next question."""
        self._state.finish_task(ticket.task_id, SubStatus.COMPLETED if finished else SubStatus.STOPPED, "")

    def is_running(self, run_id: int) -> bool:
        """Return whether a run goes on."""
        status = self._state.get_run_status({run_id}).get(run_id)
        return status is not None and status.status == "running"

    def forget_message(self, message_id: str) -> None:
        """Delete what a site was sent, once its answer is there, and once all of it has come: a site may refuse what
        the run's process still sends, which could not go on otherwise.
        """
        coming, until = cast(InMemoryLinkState, self._state)._object_push_session_by_root, time.monotonic() + COMING_S
        while message_id in coming and time.monotonic() < until:
            time.sleep(LOOK_S)
        self._state.object_store.delete(message_id)


class _Parts(InMemoryObjectStore):
    """Where the parts of messages lie. Flower believes who names a part first what lies inside it; and a part that many
    messages have, as the names of tensors, can be named by a site before any other comes to it.
    """

    def get_object_tree(self, object_id: str) -> ObjectTree:
        """Return a message with all its parts beneath it, each once: a site can have named one in the next, twice each
        time.
        """
        found, ahead = dict[str, None](), [object_id]
        with self.lock_store:
            while ahead:
                name = ahead.pop()
                if name in found:
                    continue
                if name not in self.store:
                    raise NoObjectInStoreError(f"A part of the message {object_id} is not there.")
                found[name] = None
                ahead += self.store[name].child_object_ids
        del found[object_id]
        return ObjectTree(object_id=object_id, children=[ObjectTree(object_id=name) for name in found])

    def correct(self, tree: ObjectTree) -> None:
        """Let the parts of a request hold what its run says, whatever a site said before."""
        with self.lock_store:
            for node in iterate_object_tree(tree):
                part, inside = self.store[node.object_id], [each.object_id for each in node.children]
                if part.child_object_ids != inside:
                    for name in inside:
                        self.store[name].ref_count += 1
                    for name in part.child_object_ids:
                        if name in self.store:
                            self.store[name].ref_count -= 1
                    part.child_object_ids = inside


def _trust_runs(state: Any, parts: _Parts) -> None:
    """Keep parts in `parts`, and have what a run's process says of its messages hold before a site sees them."""
    state._object_store, store = parts, state.store_message_and_object_tree

    def store_corrected(message: Message, tree: ObjectTree, session_id: str) -> tuple[bool, list[str]]:
        with state.lock:
            stored, missing = store(message, tree, session_id)
            if stored and not message.metadata.reply_to_message_id:
                parts.correct(tree)
        return stored, missing

    state.store_message_and_object_tree = store_corrected


def identify(
    headers: Mapping[str, str], find: Callable[[bytes], Member | None], now: datetime, tolerance_s: float
) -> Member:
    """Return the site that signed the headers of a Fleet request.

    Raises KeyError where no registered key is named, ValueError("clock") where it was signed at another time, and
    another ValueError or a TypeError where the headers are not what a site sends.
    """
    key = b64decode(headers[FLEET_HTTP_PUBLIC_KEY_HEADER], validate=True)
    member = find(key)
    if member is None:
        raise KeyError("key")
    timestamp = headers[TIMESTAMP_HEADER]
    signature = b64decode(headers[FLEET_HTTP_SIGNATURE_HEADER], validate=True)
    if not verify_signature(bytes_to_public_key(key), timestamp.encode("ascii"), signature):
        raise ValueError("signature")
    if not -tolerance_s < (datetime.fromisoformat(timestamp) - now).total_seconds() < AHEAD_S:
        raise ValueError("clock")
    return member


def read_answer(body: bytes) -> tuple[int, int, str]:
    """Return (node that sends, node the message names as its sender, message it answers) of a pushed answer; raises
    ValueError where it holds none.
    """
    try:
        request = PushMessagesRequest.FromString(body)
    except DecodeError as error:
        raise ValueError("expected a message") from error
    if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
        raise ValueError("expected one message")
    header, tree = request.messages_list[0], request.message_object_trees[0]
    names = [each.object_id for each in iterate_object_tree(tree)]
    if header.ByteSize() > _MOST_HEADER or len(names) > MOST_PARTS or not all(map(is_valid_sha256_hash, names)):
        raise ValueError("expected an answer of this release")
    if header.metadata.message_id != tree.object_id:
        raise ValueError("expected the parts of this message")
    return request.node.node_id, header.metadata.src_node_id, header.metadata.reply_to_message_id


def read_pulled(body: bytes) -> tuple[str, int, frozenset[str]]:
    """Return the id, the run and the names of the parts of the message that the SuperLink hands out."""
    answer = PullMessagesResponse.FromString(body)
    metadata, tree = answer.messages_list[0].metadata, answer.message_object_trees[0]
    return metadata.message_id, metadata.run_id, frozenset(each.object_id for each in iterate_object_tree(tree))


def read_asked_part(body: bytes) -> str:
    """Return the name of the part that a site asks for; "" where it names none."""
    try:
        return str(PullObjectRequest.FromString(body).object_id)
    except DecodeError:
        return ""


def _to_pem(line: bytes) -> bytes:
    key = load_ssh_public_key(line)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigurationError("Expected an ECDSA key on P-384. Ask the site for its file site.key.pub.")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class LinkGrid(HttpGrid):
    """Flower's Grid over a Unix socket. A pull never waits: an answer whose upload is under way is not there yet."""

    def __init__(self, socket: Path, token: str) -> None:
        super().__init__("link", insecure=True, token=token)
        self._connect()
        client = self._runtime_client
        client._client.close()
        client._client = httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=60.0, trust_env=False)
        self._coming: dict[str, _Coming] = {}  # by the message that is answered
        self._most: dict[str, int] = {}  # bytes that an answer to a message may have

    def begin(self) -> dict[str, Any]:
        """Take the run up and return its run config."""
        given = self._runtime_client.PullTaskInput(PullTaskInputRequest())
        TaskIdentity.task_id, TaskIdentity.run_id = given.task_id, given.run.run_id
        TaskIdentity.node_id = given.context.node_id
        run = run_from_proto(given.run)
        self.set_run(run)
        return run.override_config

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages; note how large their answers may be."""
        messages = list(messages)
        sizes = [sum(len(each.data) for record in _arrays(message) for each in record.values()) for message in messages]
        pushed = list(super().push_messages(messages))
        self._most |= {each: int(TIMES * size) + BESIDE for each, size in zip(pushed, sizes, strict=True)}
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the answers to these messages that are whole. Raises where one is larger than it may be, or lacks
        something; it is gone then.
        """
        message_ids = list(message_ids)
        asked = [each for each in message_ids if each not in self._coming]
        if asked:
            found = self._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=asked))
            for message in found.messages_list:
                self._coming[message.metadata.reply_to_message_id] = _Coming(message.metadata.message_id)
        return [answer for each in message_ids if each in self._coming and (answer := self._collect(each))]

    def _collect(self, asked: str) -> Message | None:
        coming, run_id, client = self._coming[asked], self.run.run_id, self._runtime_client
        while object_id := coming.find_missing():
            given = client.PullObject(PullObjectRequest(node=self.node, run_id=run_id, object_id=object_id))
            if given.object_found and not given.object_available:
                return None
            if not given.object_found:  # its upload broke off, and the SuperLink has given it up
                del self._coming[asked]
                return self._say_lost(asked)
            if not coming.take(object_id, given.object_content, self._most.get(asked, BESIDE)):
                break  # and what has come cannot be read
        del self._coming[asked]
        self._most.pop(asked, BESIDE)
        client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=self.node, run_id=run_id, message_object_id=coming.message_id)
        )
        message = cast(Message, inflate_object_from_contents(coming.message_id, coming.contents))
        message.metadata.__dict__["_message_id"] = coming.message_id
        return message

    def _say_lost(self, asked: str) -> Message:
        """Return what Flower says where a site is gone: it is asked again when it is back."""
        node_id = self.node.node_id
        metadata = Metadata(
            run_id=self.run.run_id,
            message_id="",
            src_node_id=node_id,
            dst_node_id=node_id,
            reply_to_message_id=asked,
            group_id="",
            created_at=0.0,
            ttl=0.0,
            message_type=SYSTEM_MESSAGE_TYPE,
        )
        return make_message(metadata=metadata, error=Error(NODE_LOST, "its upload broke off"))


def _arrays(message: Message) -> Iterable[ArrayRecord]:
    return message.content.array_records.values()


class _Coming:
    """An answer that is being uploaded. What lies inside a part is read from its bytes, which its name is the hash of;
    what a site has said before proves nothing.
    """

    def __init__(self, message_id: str) -> None:
        self.message_id = message_id
        self.contents: dict[str, bytes] = {}
        self._size, self._ahead = 0, [message_id]

    def find_missing(self) -> str:
        """Return the name of a part that is not here, "" where all are."""
        while self._ahead and self._ahead[-1] in self.contents:
            self._ahead.pop()
        return self._ahead[-1] if self._ahead else ""

    def take(self, name: str, content: bytes, most: int) -> bool:
        """Take a part; False where it is none, or all are more than `most` bytes or MOST_PARTS."""
        self._size += len(content)
        if self._size > most or len(self.contents) >= MOST_PARTS:
            return False
        try:
            inside = get_object_children_ids_from_object_content(content)
        except ValueError:
            return False
        self.contents[name] = content
        self._ahead += inside
        return True


def take_up_run(socket: Path, token: str, values: Mapping[str, str]) -> tuple[Grid, Context]:
    """Return the grid of the run that `token` stands for, and its context: the run's own config and `values`."""
    grid = LinkGrid(socket, token)
    config = grid.begin()
    return grid, Context(grid.run.run_id, grid.node.node_id, {}, RecordDict(), {**config, **values})
