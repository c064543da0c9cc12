"""Flower's Fleet API as a site speaks it. This is the one place at a site that knows Flower's private interfaces.

A message travels as a tree of objects, each named by the SHA-256 of its bytes. The link passes these bytes on unread;
only the worker makes tensors of them. The coordinator is trusted with nothing: every answer is bounded in size, every
object is held against its name, and what a message says on its outside against what it says inside.
"""

import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar, cast

import httpx
from flwr.app import Error, Message
from flwr.app.message.message import remove_content_from_message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.common.serde import message_from_proto, message_to_proto, run_from_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_body,
    get_object_id,
    get_object_tree,
    is_valid_sha256_hash,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from prostafed.client.connect.reach import (
    RefusedError,
    RunOverError,
    TooLargeError,
    UnreachableError,
    bound,
    read_clock,
    say_why,
)
from prostafed.common.errors import ConfigurationError, ProstafedError, RequestError
from prostafed.common.exchange.kinds import REFUSALS, REFUSED
from prostafed.common.shell.keys import read_private_key

PULL_S, OBJECT_S = 40.0, 180.0  # the coordinator holds a pull for up to 20 s; an object has up to 5 MiB
AVAILABLE_S = 300.0  # how long the objects of a message may take to reach the coordinator
MOST_OBJECTS = 100_000
MOST_BESIDE = 32 << 20  # bytes of a request that are no tensor's: unpacked they take many times that
_LONGEST, _LONGEST_STUDY = 100, 1_000_000  # letters of a name from outside, and of a study
_PART = b"ArrayChunk"  # how a piece of a tensor begins
_TOGETHER = 4  # objects under way at once; the door serves a site 8 questions
_RUN_OVER = {ApiErrorCode.FLEET_RUN_STATUS_NOT_ALLOWED, ApiErrorCode.FLEET_GET_RUN_FAILED}

Value = bool | int | float | str
AnswerT = TypeVar("AnswerT")
AskT = TypeVar("AskT")


@dataclass(frozen=True)
class Incoming:
    """A message for this site as it was announced: what stands on its outside, and the names of its objects."""

    announced: bytes = field(repr=False)  # all of it
    message_id: str
    run_id: int
    node_id: int
    kind: str
    group: str  # "stage.round"
    objects: tuple[str, ...] = field(repr=False)
    again: bool = False  # it may have been handed to this site before, and half an answer sent


@dataclass(frozen=True)
class Outgoing:
    """An answer as it leaves: its outside, the tree of its objects, and their bytes by name."""

    header: bytes = field(repr=False)
    tree: bytes = field(repr=False)
    contents: Mapping[str, bytes] = field(repr=False)
    refusal: str = ""  # the code, where it is one


@dataclass(frozen=True)
class Run:
    """What a coordinator says of a run: the hash of its bundle, and its settings."""

    bundle: str
    config: Mapping[str, Value] = field(repr=False)


class Fleet:
    """A site's connection to its coordinator; `node_id` is 0 until it is activated. Calls may come from two threads."""

    def __init__(self, address: str, root_certificates: Path, key: Path) -> None:
        """Raise ConfigurationError where a file is not what it should be; nothing is sent yet."""
        private = read_private_key(key)
        self.node_id, self._again = 0, False
        self._runs: dict[int, Run] = {}
        self._public_key = public_key_to_bytes(private.public_key())
        sign = NodeAuthHttpInterceptor(private, private.public_key())
        self._calls = _connect(address, root_certificates, sign, PULL_S)
        self._objects = _connect(address, root_certificates, sign, OBJECT_S)

    def activate(self) -> int:
        """Tell the coordinator that this site is there, and return its node id. What it handed out before and has no
        answer to, it hands out again.
        """
        asked = ActivateNodeRequest(public_key=self._public_key, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
        self.node_id = _call(self._calls.ActivateNode, asked).node_id
        self._runs.clear()
        self._again = True
        return self.node_id

    def heartbeat(self) -> None:
        """Tell the coordinator that this site is there still."""
        asked = SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
        if not _call(self._calls.SendNodeHeartbeat, asked).success:
            raise RefusedError("The coordinator does not know this site any more.")

    def pull(self) -> Incoming | None:
        """Return the next message for this site; a coordinator that has none answers after a while."""
        answer = _call(self._calls.PullMessages, PullMessagesRequest(node=self._node))
        if not answer.messages_list:
            return None
        again, self._again = self._again, False
        return replace(read_announced(answer.SerializeToString(), self.node_id), again=again)

    def run_of(self, incoming: Incoming) -> Run:
        """Return what the coordinator says of a message's run."""
        if incoming.run_id not in self._runs:
            asked = GetRunRequest(node=self._node, run_id=incoming.run_id)
            told = _call(lambda request: run_from_proto(self._calls.GetRun(request).run), asked)
            if len(self._runs) >= 16:
                self._runs.clear()
            self._runs[incoming.run_id] = Run(told.fab_hash, _read_config(told.override_config))
        return self._runs[incoming.run_id]

    def fetch(self, incoming: Incoming, largest: int) -> dict[str, bytes]:
        """Return the objects of a message, by name.

        Raises TooLargeError for more than `largest` bytes in all, RequestError for an object that is not what its name
        says, or a message that is another inside than outside.
        """
        deadline, counting = time.monotonic() + AVAILABLE_S, threading.Lock()
        room, beside = [largest], [MOST_BESIDE]

        def pull_object(name: str) -> bytes:
            content = self._pull_object(incoming, name, deadline)
            with counting:  # at once: what is there may lie long before it is looked at
                room[0] -= len(content)
                if room[0] < 0:
                    raise TooLargeError(
                        f"A request has more than {largest >> 20} MB, largest_request_mb of the site file. If the "
                        "study's network is that large, set it higher."
                    )
                if not content.startswith(_PART):
                    beside[0] -= len(content)
                if beside[0] < 0:
                    raise RequestError(f"A request has more than {MOST_BESIDE >> 20} MB beside its tensors.")
            return content

        contents = dict(zip(incoming.objects, _together(pull_object, incoming.objects), strict=True))
        _check_inside(incoming, contents[incoming.message_id])
        return contents

    def push(
        self, outgoing: Outgoing, incoming: Incoming, seconds: float, may_go: Callable[[], None] = lambda: None
    ) -> None:
        """Send an answer, and let the coordinator forget the request; what it has of an interrupted try is not sent
        again. `seconds` is how long the answer took.

        `may_go` is asked before each of its parts. Where it raises, the rest is not sent: the coordinator cannot make
        the answer of the parts that it has, drops them after a while, and asks again.
        """
        header, tree = MessageProto.FromString(outgoing.header), ObjectTree.FromString(outgoing.tree)
        asked = PushMessagesRequest(
            node=self._node, messages_list=[header], message_object_trees=[tree], clientapp_runtime_list=[seconds]
        )
        answer = _call(self._calls.PushMessages, asked)
        wanted = [name for name in dict.fromkeys(answer.objects_to_push) if name in outgoing.contents]
        session = answer.session_id
        if not wanted and incoming.again:  # it may wait for the rest of what a link sent that was killed meanwhile
            wanted, session = list(outgoing.contents), ""

        def push_object(name: str) -> None:
            may_go()
            request = PushObjectRequest(
                node=self._node,
                run_id=incoming.run_id,
                session_id=session,
                object_id=name,
                object_content=outgoing.contents[name],
            )
            if not _call(self._objects.PushObject, request).stored and session:
                raise UnreachableError("The coordinator did not take a part of the answer.")

        _together(push_object, wanted)
        received = ConfirmMessageReceivedRequest(
            node=self._node, run_id=incoming.run_id, message_object_id=incoming.message_id
        )
        _call(self._calls.ConfirmMessageReceived, received)

    def deactivate(self) -> None:
        """Take leave."""
        node_id, self.node_id = self.node_id, 0
        if node_id:
            _call(self._calls.DeactivateNode, DeactivateNodeRequest(node_id=node_id))

    def close(self) -> None:
        """Close what is open."""
        self._calls.close()
        self._objects.close()

    @property
    def _node(self) -> Node:
        return Node(node_id=self.node_id)

    def _pull_object(self, incoming: Incoming, name: str, deadline: float) -> bytes:
        wait_s = 0.1
        while True:
            asked = PullObjectRequest(node=self._node, run_id=incoming.run_id, object_id=name)
            answer = _call(self._objects.PullObject, asked)
            if not answer.object_found or time.monotonic() > deadline:
                raise RunOverError("The coordinator does not have the request any more.")
            if answer.object_available:
                break
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, 1.0)
        if get_object_id(answer.object_content) != name:
            raise RequestError("A part of a request is not what its name says.")
        return bytes(answer.object_content)


def _together(work: Callable[[str], AnswerT], names: Sequence[str]) -> list[AnswerT]:
    """Return what `work` gives of each name; the first that fails ends the others.

    A link that is asked to end waits for none of them: a coordinator may be long in answering.
    """
    ahead, done, over = (
        SimpleQueue[str](),
        SimpleQueue[tuple[str, AnswerT | None, Exception | None]](),
        threading.Event(),
    )
    for name in names:
        ahead.put(name)

    def work_on() -> None:
        with suppress(Empty):
            while not over.is_set():
                name = ahead.get_nowait()
                try:
                    done.put((name, work(name), None))
                except Exception as error:
                    done.put((name, None, error))

    for _ in range(min(_TOGETHER, len(names))):
        threading.Thread(target=work_on, daemon=True).start()
    found: dict[str, AnswerT] = {}
    try:
        for _ in names:
            name, given, error = done.get()
            if error is not None:
                raise error
            found[name] = cast(AnswerT, given)
    finally:
        over.set()
    return [found[name] for name in names]


def read_announced(announced: bytes, node_id: int) -> Incoming:
    """Return the first message of an announcement; raises UnreachableError for one that is none for this site."""
    try:
        answer = PullMessagesResponse.FromString(announced)
        about, tree = answer.messages_list[0].metadata, answer.message_object_trees[0]
        objects = tuple(dict.fromkeys(each.object_id for each in iterate_object_tree(tree)))
        message_from_proto(answer.messages_list[0])
    except Exception as error:  # protobuf and Flower raise what they like
        raise UnreachableError(_NO_MESSAGE) from error
    sound = about.dst_node_id == node_id and tree.object_id == about.message_id and len(objects) <= MOST_OBJECTS
    named = all(each.isprintable() and len(each) <= _LONGEST for each in (about.message_type, about.group_id))
    if not (sound and named) or not all(is_valid_sha256_hash(each) for each in objects):
        raise UnreachableError(_NO_MESSAGE)
    about_it = (about.message_id, about.run_id, about.dst_node_id, about.message_type, about.group_id)
    return Incoming(announced, *about_it, objects)


_NO_MESSAGE = "The coordinator sent a message that is not for this site, or cannot be read. Compare the releases."


def _read_config(config: Mapping[str, object]) -> dict[str, Value]:
    """Return what a site needs of a run's settings: its study and its name, where they are what this release sends."""
    study, run = config.get("study"), config.get("run")
    kept: dict[str, Value] = {}
    if isinstance(study, str) and len(study) <= _LONGEST_STUDY:
        kept["study"] = study
    if isinstance(run, str):
        kept["run"] = "".join(each if each.isprintable() else "?" for each in run[:_LONGEST])
    return kept


def inflate(incoming: Incoming, contents: dict[str, bytes]) -> Message:
    """Return the message that `contents` hold, and empty them; raises RequestError where they hold none."""
    try:
        message = inflate_object_from_contents(incoming.message_id, contents)
        if not isinstance(message, Message):
            raise TypeError
    except MemoryError:
        raise
    except Exception as error:
        raise RequestError("The coordinator sent a message that cannot be read.") from error
    message.metadata.__dict__["_message_id"] = incoming.message_id  # it cannot hold its own hash
    return message


def pack(message: Message, incoming: Incoming) -> Outgoing:
    """Return an answer as it leaves.

    It bears the time of its request. The same answer then has the same name: one that is given again, since the link
    was killed while it sent the first, is taken where that one stopped.
    """
    asked = PullMessagesResponse.FromString(incoming.announced).messages_list[0].metadata
    message.metadata.created_at, message.metadata.ttl = asked.created_at, asked.ttl
    refusal = str(message.error.reason) if message.has_error() else ""
    with no_object_id_recompute():  # else every look at a name hashes all tensors again
        message.metadata.__dict__["_message_id"] = message.object_id
        header = message_to_proto(remove_content_from_message(message)).SerializeToString()
        tree = get_object_tree(message).SerializeToString()
        contents = {name: each.deflate() for name, each in get_all_nested_objects(message).items()}
    return Outgoing(header, tree, contents, refusal)


def refuse_message(incoming: Incoming, code: str) -> Outgoing:
    """Return the refusal of a message, which need not be read for it: a code of REFUSALS."""
    assert code in REFUSALS
    asked = message_from_proto(PullMessagesResponse.FromString(incoming.announced).messages_list[0])
    return pack(Message(Error(REFUSED, code), reply_to=asked), incoming)


def _check_inside(incoming: Incoming, head: bytes) -> None:
    """Raise RequestError unless a message says the same inside: hours and limits are kept by its outside."""
    try:
        inside = MessageProto.FromString(get_object_body(head, Message)).metadata
    except Exception as error:
        raise RequestError("The coordinator sent a message that cannot be read.") from error
    found = (inside.run_id, inside.dst_node_id, inside.message_type, inside.group_id)
    if found != (incoming.run_id, incoming.node_id, incoming.kind, incoming.group):
        raise RequestError("The coordinator sent a message that is another inside than outside.")


def _connect(address: str, authority: Path, sign: NodeAuthHttpInterceptor, timeout_s: float) -> FleetHttpClient:
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"{authority} is not a certificate that can be read. Ask the coordinator for its file ca.crt."
        ) from error
    client = FleetHttpClient(f"https://{address}", interceptors=[sign], verify=context, timeout=timeout_s)
    client._client.follow_redirects = False  # a coordinator sends a site nowhere else
    client._client.event_hooks = {"response": [bound]}
    return client


def _call(send: Callable[[AskT], AnswerT], request: AskT) -> AnswerT:
    """Return the coordinator's answer; whatever goes wrong is one of this module's errors."""
    try:
        return send(request)
    except httpx.HTTPStatusError as error:
        raise _read_refusal(error.response) from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise UnreachableError(say_why(error)) from error
    except (ValueError, TypeError, KeyError, DecodeError, RecursionError) as error:  # what answers is no coordinator
        raise UnreachableError("What answers at the coordinator's address is no coordinator. Check address.") from error


def _read_refusal(response: httpx.Response) -> ProstafedError:
    status, code = response.status_code, None
    with suppress(ValueError, TypeError, RecursionError):  # it may be anything
        told = FlowerError.from_json(response.text)
        code = told.code if told else None
    if code in _RUN_OVER or status == 409:  # the door's word for an answer that nobody waits for
        return RunOverError("The run is over.")
    if code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED:
        return RefusedError("The coordinator does not know this site's key.")
    if status in (401, 403):
        return read_clock(response) or RefusedError("The coordinator does not know this site's key.")
    return UnreachableError(f"The coordinator answered with the status {status}. If it goes on, ask it why.")
