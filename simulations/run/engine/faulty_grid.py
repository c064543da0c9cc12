"""A LocalGrid on which things go wrong, as the federation file says."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flwr.app import Error, Message
from flwr.clientapp import ClientApp

from prostafed.common.exchange.kinds import MESSAGE_TYPES, NODE_LOST
from prostafed.common.exchange.messages import Reply
from prostafed.common.exchange.wire import (
    SITE_CRASHED,
    pack_reply,
    unpack_reply,
    unpack_request,
)
from prostafed.simulations.federation.faults import Fault, Faults, tamper
from prostafed.simulations.run.engine.grid import LocalGrid, cross_wire, identify


class FaultyGrid(LocalGrid):
    """The grid of `run_local` where a federation has faults. Rounds are told by the messages that are pushed."""

    def __init__(
        self,
        client_app: ClientApp,
        node_configs: Sequence[Mapping[str, Any]],
        run_config: Mapping[str, Any],
        names: Sequence[str],
        faults: Faults,
        compress: str = "none",
        first: tuple[int, int] = (1, 1),
    ) -> None:
        """`names`: of the sites, in the order of their nodes; `compress`: how updates travel; `first`: stage and round
        that will be asked for first.
        """
        super().__init__(client_app, node_configs, run_config)
        self._names = dict(zip(sorted(self._contexts), names, strict=True))  # node -> site
        self._faults, self._compress = faults, compress
        self._next = first  # stage and round that will be asked for next
        self._attempts: dict[tuple[int, int, int], int] = {}  # (node, stage, round) -> times it was asked
        self._withheld: dict[str, float] = {}  # message -> when its answer may be pulled

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that are there for the next round."""
        return [node for node in super().get_node_ids() if "absent" not in self._happening(node, *self._next)]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages; those to a straggler can be answered once its delay is over."""
        pushed = []
        for message in messages:
            (message_id,) = super().push_messages([message])
            pushed.append(message_id)
            if message.metadata.message_type == MESSAGE_TYPES["train"]:
                request = unpack_request(message)
                asked = (message.metadata.dst_node_id, request.stage, request.round)
                self._attempts[asked] = self._attempts.get(asked, 0) + 1
                late = self._happening(*asked).get("straggler")
                self._withheld[message_id] = time.monotonic() + (late.delay_s if late else 0.0)
                self._next = self._faults.after(request.stage, request.round)
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are due."""
        now = time.monotonic()
        due = [message_id for message_id in message_ids if self._withheld.get(message_id, now) <= now]
        return super().pull_messages(due)

    def _answer(self, message: Message) -> Message:
        if message.metadata.message_type != MESSAGE_TYPES["train"]:
            return super()._answer(message)
        request = unpack_request(message)
        happening = self._happening(message.metadata.dst_node_id, request.stage, request.round)
        if "dropout" in happening or "absent" in happening:
            return cross_wire(identify(Message(Error(NODE_LOST, "dropout"), reply_to=message)))
        if "crash" in happening:
            return cross_wire(identify(Message(Error(SITE_CRASHED, "crash"), reply_to=message)))
        answered = super()._answer(message)
        reply = unpack_reply(answered, replace(request, returns=None))
        if not happening or not isinstance(reply, Reply):
            return answered
        spoilt = Reply(**{**vars(reply), "tensors": tamper(happening, request.tensors, reply.tensors, self._compress)})
        return cross_wire(identify(pack_reply(spoilt, message)))

    def _happening(self, node: int, stage: int, number: int) -> dict[str, Fault]:
        attempt = self._attempts.get((node, stage, number), 1)
        return self._faults.happening(self._names[node], stage, number, attempt)
