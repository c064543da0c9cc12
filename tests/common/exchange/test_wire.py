"""What is packed is read back the same."""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from prostafed.common.errors import RequestError
from prostafed.common.exchange.compression import list_slots
from prostafed.common.exchange.messages import MOST_MASK_BYTES, Refusal, Reply, Request
from prostafed.common.exchange.wire import pack_reply, pack_request, unpack_reply, unpack_request
from prostafed.simulations.run.engine.grid import LocalGrid, cross_wire

TENSORS = {"encoder.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "encoder.bias": np.zeros((0,), np.float32)}


@pytest.fixture(autouse=True)
def _sender() -> None:
    LocalGrid(ClientApp(), [], {})  # names this process as the sender of messages


def assert_same_tensors(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def received(message: Message) -> Message:
    message.metadata.__dict__["_message_id"] = "1"
    return cross_wire(message)


def test_request_round_trip() -> None:
    request = Request("evaluate", "run", "abc", 2, 3, TENSORS, ("validation", "test"))
    read = unpack_request(received(pack_request(request, [7], 60.0)[0]))
    assert (read.action, read.run, read.study_hash, read.stage, read.round, read.splits) == (
        "evaluate", "run", "abc", 2, 3, ("validation", "test"),
    )  # fmt: skip
    assert_same_tensors(read.tensors, TENSORS)


def test_reply_round_trip() -> None:
    asked = Request("train", returns=list_slots(TENSORS, "none", 1.0))
    request = received(pack_request(asked, [7], 60.0)[0])
    reply = Reply("north", "abc", 1, 2, 40, TENSORS, {"train/loss": 0.5})
    read = unpack_reply(received(pack_reply(reply, request)), asked)
    assert isinstance(read, Reply)
    assert (read.site, read.study_hash, read.stage, read.round, read.cases) == ("north", "abc", 1, 2, 40)
    assert read.metrics == {"train/loss": 0.5}
    assert_same_tensors(read.tensors, TENSORS)


@pytest.mark.parametrize("action", ["hello", "keys", "shares", "agree", "unmask"])
def test_what_is_said_about_masks_travels_both_ways_and_brings_no_tensors(action: str) -> None:
    asked = Request(action, "" if action == "hello" else "run", "abc", 1, 2, masks=b"\x00asked")
    request = received(pack_request(asked, [7], 60.0)[0])
    assert unpack_request(request).masks == b"\x00asked"
    told = unpack_reply(received(pack_reply(Reply("north", "abc", 1, 2, masks=b"told"), request)), asked)
    assert isinstance(told, Reply)
    assert told.masks == b"told"
    with pytest.raises(RequestError):
        unpack_request(received(pack_request(replace(asked, tensors=TENSORS), [7], 60.0)[0]))
    told_much = received(pack_reply(Reply("north", "abc", 1, 2, masks=bytes(MOST_MASK_BYTES + 1)), request))
    assert unpack_reply(told_much, asked) == Refusal("MALFORMED")
    with_metrics = received(pack_reply(Reply("north", "abc", 1, 2, metrics={"train/loss": 0.5}), request))
    assert unpack_reply(with_metrics, asked) == Refusal("MALFORMED")


def test_a_refusal_carries_its_code_only() -> None:
    asked = Request("train")
    request = received(pack_request(asked, [7], 60.0)[0])
    assert unpack_reply(received(pack_reply(Refusal("DATA"), request)), asked) == Refusal("DATA")
    unknown = Refusal("No such file: /scans/Smith^John")
    assert unpack_reply(received(pack_reply(unknown, request)), asked) == Refusal("UNKNOWN_REFUSAL")


def test_flowers_codes_are_those_of_flower() -> None:
    request = received(pack_request(Request("train"), [7], 60.0)[0])
    for code, name in ((ErrorCode.NODE_UNAVAILABLE, "NODE_LOST"), (ErrorCode.CLIENT_APP_CRASHED, "SITE_CRASHED")):
        assert unpack_reply(Message(Error(code), reply_to=request), Request("train")) == Refusal(name)


def test_a_transposed_tensor_travels_as_any_other() -> None:
    turned = {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T}
    request = received(pack_request(Request("train", "run", "abc", 1, 1, turned), [7], 60.0)[0])
    assert_same_tensors(unpack_request(request).tensors, turned)
