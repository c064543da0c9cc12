"""A coordinator for a `Fleet` without a network: a table of what it answers, and a message as it would hand it out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import certifi
import httpx
import numpy as np
from flwr.app import Message
from flwr.app.message.message import remove_content_from_message
from flwr.clientapp import ClientApp
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PullMessagesResponse
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

from prostafed.client.connect.fleet import Fleet
from prostafed.client.connect.reach import bound
from prostafed.common.exchange.messages import Request
from prostafed.common.exchange.wire import pack_request
from prostafed.common.shell.keys import create_node_key
from prostafed.simulations.run.engine.grid import LocalGrid

NODE = 7
TENSORS = {"encoder.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
ASKED = Request("evaluate", "run-1", "abc", 2, 3, TENSORS, ("validation",))
Answers = Mapping[str, Callable[[bytes], httpx.Response]]


def announce(request: Request = ASKED) -> tuple[PullMessagesResponse, dict[str, bytes]]:
    """Return a request as a coordinator announces it, and its objects."""
    LocalGrid(ClientApp(), [], {})  # names this process as the sender of messages
    (message,) = pack_request(request, [NODE], 60.0)
    message.metadata.__dict__["_message_id"] = message.object_id
    return announced(message), {name: each.deflate() for name, each in get_all_nested_objects(message).items()}


def announced(message: Message) -> PullMessagesResponse:
    """Return the announcement of a message."""
    header = message_to_proto(remove_content_from_message(message))
    return PullMessagesResponse(messages_list=[header], message_object_trees=[get_object_tree(message)])


def answer(message: Any) -> Callable[[bytes], httpx.Response]:
    """Return what answers with a protobuf message."""
    content = message.SerializeToString()
    return lambda _: httpx.Response(200, content=content)


def make_fleet(folder: Path, answers: Answers) -> Fleet:
    """Return a fleet whose coordinator answers by the last part of the path; other questions are 404."""
    create_node_key(folder / "site.key", "north")
    fleet = Fleet("localhost:1", Path(certifi.where()), folder / "site.key")

    def handle(request: httpx.Request) -> httpx.Response:
        question = request.url.path.rpartition("/")[2]
        return answers[question](request.content) if question in answers else httpx.Response(404)

    for client in (fleet._calls, fleet._objects):
        client._client = httpx.Client(transport=httpx.MockTransport(handle), event_hooks={"response": [bound]})
    fleet.node_id = NODE
    return fleet
