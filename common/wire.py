"""Requests and replies <-> Flower messages. ConfigRecords carry names, MetricRecords numbers, ArrayRecords tensors by
name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from prostafed.common.messages import Refusal, Reply, Request
from prostafed.common.tensors import Tensors

MESSAGE_TYPES = {"hello": "query.hello", "train": "train.round", "evaluate": "evaluate.round"}
MALFORMED = "MALFORMED"
REFUSED = 100  # Flower's own error codes lie below
LINGER_S = 300.0  # how long an answer that comes too late is still taken in; also more than clocks may differ
NODE_LOST, SITE_CRASHED = 5, 8  # Flower's codes where a SuperNode has gone, and where its ClientApp has died
_FLOWER_ERRORS = {3: "NODE_UNAVAILABLE", NODE_LOST: "NODE_LOST", SITE_CRASHED: "SITE_CRASHED"}


def pack_request(request: Request, node_ids: Sequence[int], deadline_s: float) -> list[Message]:
    """Return the messages that ask `node_ids`, all with one copy of the tensors; a site that was away is not given its
    own long after the deadline.
    """
    ask = ConfigRecord(
        {
            "run": request.run,
            "study_hash": request.study_hash,
            "stage": request.stage,
            "round": request.round,
            "splits": list(request.splits),
        }
    )
    content = RecordDict({"ask": ask, "tensors": _pack(request.tensors)})
    kind, group, ttl = MESSAGE_TYPES[request.action], f"{request.stage}.{request.round}", deadline_s + LINGER_S
    return [Message(content, dst_node_id=node, message_type=kind, ttl=ttl, group_id=group) for node in node_ids]


def unpack_request(message: Message) -> Request:
    """Return the request a message holds."""
    ask: Mapping[str, Any] = message.content.config_records["ask"]
    actions = {message_type: action for action, message_type in MESSAGE_TYPES.items()}
    return Request(
        action=actions[message.metadata.message_type],
        run=str(ask["run"]),
        study_hash=str(ask["study_hash"]),
        stage=int(ask["stage"]),
        round=int(ask["round"]),
        tensors=_unpack(message.content.array_records["tensors"]),
        splits=tuple(ask["splits"]),
    )


def pack_reply(reply: Reply | Refusal, request: Message) -> Message:
    """Return the message that answers `request`."""
    if isinstance(reply, Refusal):
        return Message(Error(REFUSED, reply.code), reply_to=request)
    answer = ConfigRecord(
        {
            "site": reply.site,
            "study_hash": reply.study_hash,
            "stage": reply.stage,
            "round": reply.round,
            "cases": reply.cases,
        }
    )
    content = RecordDict(
        {"answer": answer, "tensors": _pack(reply.tensors), "metrics": MetricRecord(dict(reply.metrics))}
    )
    return Message(content, reply_to=request)


def unpack_reply(message: Message) -> Reply | Refusal:
    """Return the reply a message holds, or the refusal its error stands for; MALFORMED where it is no reply of ours."""
    if message.has_error():
        code = message.error.code
        return Refusal(
            str(message.error.reason) if code == REFUSED else _FLOWER_ERRORS.get(code, f"FLOWER_ERROR_{code}")
        )
    try:
        return _unpack_answer(message)
    except (KeyError, TypeError, ValueError):  # one site's nonsense must not end everybody's run
        return Refusal(MALFORMED)


def _unpack_answer(message: Message) -> Reply:
    answer: Mapping[str, Any] = message.content.config_records["answer"]
    metrics: Mapping[str, Any] = message.content.metric_records["metrics"]
    return Reply(
        site=str(answer["site"]),
        study_hash=str(answer["study_hash"]),
        stage=int(answer["stage"]),
        round=int(answer["round"]),
        cases=int(answer["cases"]),
        tensors=_unpack(message.content.array_records["tensors"]),
        metrics={name: float(value) for name, value in metrics.items()},
    )


def _pack(tensors: Tensors) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(array, order="C")) for name, array in tensors.items()})


def _unpack(record: ArrayRecord) -> Tensors:
    return {name: array.numpy() for name, array in record.items()}
