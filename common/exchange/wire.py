"""Requests and replies <-> Flower messages. ConfigRecords carry names, MetricRecords numbers, one ArrayRecord the bytes
of all tensors, beside a ConfigRecord that declares them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from prostafed.common.errors import CheckpointError, RequestError
from prostafed.common.exchange.arrays import MOST_ARRAYS, NOTHING, Declared, Layout, join_arrays, read_arrays
from prostafed.common.exchange.kinds import MESSAGE_TYPES, NODE_LOST, REFUSALS, REFUSED, UNKNOWN_REFUSAL
from prostafed.common.exchange.messages import (
    MOST_MASK_BYTES,
    MOST_ROUNDS,
    MOST_STAGES,
    SITE_NAME,
    STUDY_HASH,
    Refusal,
    Reply,
    Request,
)
from prostafed.common.exchange.released import COHORT, MOST_COUNTED, is_released
from prostafed.common.imaging.folds import SPLITS
from prostafed.common.study import RUN_NAME
from prostafed.common.tensors import Tensors

MALFORMED = "MALFORMED"
LINGER_S = 300.0  # how long an answer that comes too late is still taken in; also more than clocks may differ
SITE_CRASHED = 8  # Flower's code where a ClientApp has died
FLOWER_ERROR = "FLOWER_ERROR"  # another of its codes
_FLOWER_ERRORS = {3: "NODE_UNAVAILABLE", NODE_LOST: "NODE_LOST", SITE_CRASHED: "SITE_CRASHED"}
_PLAIN = "bytes"  # how the bytes of an array are kept: as they are
_SHAPE = re.compile(r"\[(\d{1,18}(, \d{1,18}){0,15})?\]")
_NO_RUN = re.compile("")  # sites are asked who they are before a run begins


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
            "masks": request.masks,
        }
    )
    content = RecordDict({"ask": ask, **_pack(request.tensors)})
    kind, group, ttl = MESSAGE_TYPES[request.action], f"{request.stage}.{request.round}", deadline_s + LINGER_S
    return [Message(content, dst_node_id=node, message_type=kind, ttl=ttl, group_id=group) for node in node_ids]


def unpack_request(message: Message) -> Request:
    """Return the request a message holds; its tensors are sound arrays, which the study has yet to be asked about.

    The server is trusted no more than a site: raises RequestError unless every field is one that this release sends.
    """
    try:
        ask: Mapping[str, Any] = message.content.config_records["ask"]
        action = {message_type: action for action, message_type in MESSAGE_TYPES.items()}[message.metadata.message_type]
        return Request(
            action=action,
            run=_read_text(ask["run"], _NO_RUN if action == "hello" else RUN_NAME),
            study_hash=_read_text(ask["study_hash"], STUDY_HASH),
            stage=_read_whole(ask["stage"], MOST_STAGES),
            round=_read_whole(ask["round"], MOST_ROUNDS),
            tensors=_unpack(message, None if action in ("train", "evaluate") else NOTHING),
            splits=_read_splits(ask["splits"]),
            masks=_read_masks(ask["masks"]),
        )
    except Exception as error:  # the sentence must not repeat what was sent
        raise RequestError(
            f"The server's request cannot be read ({type(error).__name__}). Compare the releases of server and site."
        ) from error


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
            "masks": reply.masks,
        }
    )
    content = RecordDict({"answer": answer, **_pack(reply.tensors), "metrics": MetricRecord(dict(reply.metrics))})
    return Message(content, reply_to=request)


def unpack_reply(message: Message, request: Request) -> Reply | Refusal:
    """Return the reply a message holds, or the refusal its error stands for; MALFORMED where it is no answer to
    `request` of a site of this release, whatever reading it raises.

    Raises CheckpointError where its tensors are declared otherwise than `request` says that they come back.
    """
    try:
        return Refusal(_name_error(message.error)) if message.has_error() else _unpack_answer(message, request)
    except CheckpointError:
        raise
    except Exception:  # one site's nonsense must not end everybody's run
        return Refusal(MALFORMED)


def _name_error(error: Error) -> str:
    if error.code == REFUSED:
        return error.reason if error.reason and error.reason in REFUSALS else UNKNOWN_REFUSAL
    return _FLOWER_ERRORS.get(error.code, FLOWER_ERROR)


def _unpack_answer(message: Message, request: Request) -> Reply:
    answer: Mapping[str, Any] = message.content.config_records["answer"]
    metrics: Mapping[str, Any] = message.content.metric_records["metrics"]
    asked = {"hello": (COHORT,), "train": ("train",), "evaluate": request.splits}.get(request.action, ())
    if not all(name.partition("/")[0] in asked and _is_number(value) for name, value in metrics.items()):
        raise ValueError
    if not all(is_released(name, value) for name, value in metrics.items()):
        raise ValueError
    return Reply(
        site=_read_text(answer["site"], SITE_NAME),
        study_hash=_read_text(answer["study_hash"], STUDY_HASH),
        stage=_read_whole(answer["stage"], MOST_STAGES),
        round=_read_whole(answer["round"], MOST_ROUNDS),
        cases=_read_whole(answer["cases"], MOST_COUNTED),
        tensors=_unpack(message, request.returns),
        metrics={name: float(value) for name, value in metrics.items()},
        masks=_read_masks(answer["masks"]),
    )


def _read_text(value: object, pattern: re.Pattern[str]) -> str:
    if not (isinstance(value, str) and pattern.fullmatch(value)):
        raise ValueError
    return value


def _read_whole(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:  # True is an int, and no number
        raise ValueError
    return value


def _read_masks(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) > MOST_MASK_BYTES:
        raise ValueError
    return value


def _read_splits(value: Any) -> tuple[str, ...]:
    splits = tuple(value)
    if len(set(splits)) != len(splits) or not set(splits) <= set(SPLITS):
        raise ValueError
    return splits


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pack(tensors: Tensors) -> dict[str, ConfigRecord | ArrayRecord]:
    declared, content = join_arrays(tensors)
    layout = ConfigRecord(
        {
            "names": list(declared),
            "dtypes": [each.dtype for each in declared.values()],
            "shapes": [json.dumps(each.shape) for each in declared.values()],
        }
    )
    arrays = {"content": Array("uint8", (len(content),), _PLAIN, content)} if content else {}
    return {"layout": layout, "tensors": ArrayRecord(arrays)}


def _unpack(message: Message, layout: Layout | None) -> Tensors:
    declared: Mapping[str, Any] = message.content.config_records["layout"]
    arrays = message.content.array_records["tensors"]
    names, dtypes, shapes = (_read_texts(declared[key]) for key in ("names", "dtypes", "shapes"))
    if len(set(names)) != len(names) or len(names) > MOST_ARRAYS or arrays.keys() - {"content"}:
        raise ValueError
    each = [Declared(dtype, _read_shape(shape)) for dtype, shape in zip(dtypes, shapes, strict=True)]
    content = arrays["content"].data if arrays else b""
    return read_arrays(dict(zip(names, each, strict=True)), content, layout)


def _read_texts(values: Any) -> list[str]:
    if not all(isinstance(value, str) for value in values):
        raise ValueError
    return list(values)


def _read_shape(text: str) -> tuple[int, ...]:
    if not _SHAPE.fullmatch(text):
        raise ValueError
    return tuple(json.loads(text))
