"""A Grid inside this process: the real ServerApp and ClientApp, every message through the wire format, no sockets, no
Ray.
"""

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from prostafed.common.exchange.wire import SITE_CRASHED

logger = logging.getLogger("prostafed.site")
FIRST_NODE_ID = 100


def cross_wire(message: Message) -> Message:
    """Return `message` as it is read at the other end: deflated to bytes and inflated, as SuperLink and
    SuperNode do.
    """
    contents = {object_id: part.deflate() for object_id, part in get_all_nested_objects(message).items()}
    read = inflate_object_from_contents(message.object_id, contents)
    assert isinstance(read, Message)
    read.metadata.__dict__["_message_id"] = message.metadata.message_id
    return read


def identify(message: Message) -> Message:
    """Give `message` an id, as the runtime does that takes it over."""
    message.metadata.__dict__["_message_id"] = uuid.uuid4().hex
    return message


class LocalGrid(Grid):
    """Answers each message by calling the ClientApp when its reply is pulled; one site at a time, in the
    order pulled.
    """

    def __init__(
        self, client_app: ClientApp, node_configs: Sequence[Mapping[str, Any]], run_config: Mapping[str, Any]
    ) -> None:
        self._client_app = client_app
        self._run = Run.create_empty(run_id=1)
        self._contexts = {
            FIRST_NODE_ID + number: Context(1, FIRST_NODE_ID + number, dict(config), RecordDict(), dict(run_config))
            for number, config in enumerate(node_configs)
        }
        self._pushed: dict[str, Message] = {}
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1  # messages carry their sender

    def set_run(self, run: Run) -> None:
        """Set the run messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run messages belong to."""
        return self._run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """Not offered: Flower deprecated it for Message(...)."""
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        """Return every emulated site's node."""
        return sorted(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages; they are answered when pulled."""
        pushed = []
        for message in messages:
            self._pushed[identify(message).metadata.message_id] = message
            pushed.append(message.metadata.message_id)
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the sites' replies to these messages."""
        return [self._answer(self._pushed.pop(message_id)) for message_id in message_ids if message_id in self._pushed]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push, then pull."""
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message:
        asked = cross_wire(message)
        try:
            reply = self._client_app(asked, self._contexts[message.metadata.dst_node_id])
        except Exception as error:  # a crash in one site is that site's, as in a deployment
            logger.exception("A site crashed.")
            reply = Message(Error(SITE_CRASHED, type(error).__name__), reply_to=asked)
        return cross_wire(identify(reply))
