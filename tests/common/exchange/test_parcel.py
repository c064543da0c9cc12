"""The tensors of a message travel as one array, and are by name again at the other end, or nobody reads them."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from hypothesis import given, settings
from hypothesis import strategies as st

from prostafed.common.exchange.messages import Request
from prostafed.common.exchange.parcel import merge, split
from prostafed.common.exchange.wire import pack_request
from prostafed.simulations.run.engine.grid import LocalGrid, cross_wire

TENSORS = {
    "encoder.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "encoder.count": np.array(3, np.int64),
    "encoder.nothing": np.zeros((0, 4), np.float16),
}


def packed(tensors: dict[str, np.ndarray] = TENSORS) -> Message:
    LocalGrid(ClientApp(), [], {})  # names this process as the sender of messages
    (message,) = pack_request(Request("train", "run", "abc", 1, 1, tensors), [7], 60.0)
    return message


def test_what_was_merged_is_split_into_the_same() -> None:
    message = packed()
    before = message.content
    message.content = merge(before)
    message.metadata.__dict__["_message_id"] = "1"
    after = split(cross_wire(message).content)
    assert after == before
    assert list(after.array_records["tensors"]) == list(TENSORS)


def test_a_hundred_tensors_are_as_many_objects_as_one() -> None:
    few, many = packed({"w": np.ones(2)}), packed({f"w{number}": np.full(2, number) for number in range(100)})
    for message in (few, many):
        message.content = merge(message.content)
    assert len(get_all_nested_objects(many)) == len(get_all_nested_objects(few)) < 10


def test_a_message_without_tensors_stays_as_it_is() -> None:
    greeting = packed({}).content
    assert merge(greeting) is greeting
    assert split(greeting) is greeting


LISTED: dict[str, Any] = {
    "names": ["a", "b"],
    "dtypes": ["float32", "int8"],
    "shapes": ["2", ""],
    "lengths": [8, 1],
}


def parcel(data: bytes = bytes(9), **changes: object) -> RecordDict:
    listed = ConfigRecord()
    listed.__dict__["_data"] = {**LISTED, **changes}  # past the checks Flower makes at the sender
    whole = ArrayRecord({"parcel": Array("uint8", (len(data),), "parcel", data)})
    return RecordDict({"ask": ConfigRecord({"run": "x"}), "tensors": whole, "parcel": listed})


def test_a_sound_list_is_read() -> None:
    arrays = split(parcel()).array_records["tensors"]
    assert {name: (each.dtype, each.shape, len(each.data)) for name, each in arrays.items()} == {
        "a": ("float32", (2,), 8),
        "b": ("int8", (), 1),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"data": bytes(8)},
        {"data": bytes(10)},
        {"data": b""},
        {"names": ["a", "a"]},
        {"names": ["a"]},
        {"names": ["a", 5]},
        {"names": "ab"},
        {"dtypes": ["float32", None]},
        {"shapes": ["2", "-1"]},
        {"shapes": ["2", "2,"]},
        {"shapes": ["2", "9" * 5000]},
        {"shapes": ["2", ",".join("1" * 17)]},
        {"lengths": [10, -1]},
        {"lengths": [8, True]},
        {"lengths": [8.0, 1]},
        {"lengths": [10**400, 1]},
        {"names": [str(n) for n in range(20_001)], **{key: [""] * 20_001 for key in ("dtypes", "shapes")},
         "lengths": [0] * 20_001, "data": b""},
    ],
)  # fmt: skip
def test_a_list_that_no_sender_writes_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"list|names"):
        split(parcel(**changes))


def test_a_list_with_something_missing_is_refused() -> None:
    for name in LISTED:
        content = parcel()
        del content.config_records["parcel"][name]
        with pytest.raises(KeyError):
            split(content)
    for name in ("tensors", "parcel"):
        content = parcel()
        content[name] = ConfigRecord()
        with pytest.raises((KeyError, ValueError)):
            split(content)


VALUES = st.lists(st.one_of(st.integers(-2, 12), st.text("0123456789,-a", max_size=6)), max_size=4)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(list(LISTED)), VALUES, max_size=4), st.binary(max_size=12))
def test_what_is_split_holds_what_came_and_no_more(changes: dict[str, Any], data: bytes) -> None:
    try:
        arrays = split(parcel(data, **changes)).array_records["tensors"]
    except ValueError:
        return
    assert b"".join(array.data for array in arrays.values()) == data
