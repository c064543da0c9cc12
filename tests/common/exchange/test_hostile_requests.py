"""A site reads a request as strictly as the server a reply: every field is one of this release, or nothing is done."""

import numpy as np
import pytest
from flwr.app import Message
from flwr.clientapp import ClientApp
from hypothesis import given, settings
from hypothesis import strategies as st

from prostafed.common.errors import RequestError
from prostafed.common.exchange.messages import Request
from prostafed.common.exchange.wire import pack_request, unpack_request
from prostafed.simulations.run.engine.grid import LocalGrid

from .messages_changed import declare, replace_bytes

TENSORS = {"encoder.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
SECRET = "Smith^John"


@pytest.fixture(autouse=True, scope="module")
def _sender() -> None:
    LocalGrid(ClientApp(), [], {})  # names this process as the sender of messages


def ask(action: str = "evaluate", **fields: object) -> Message:
    """Return a sound request with some fields as they are given."""
    tensors = {} if action == "hello" else TENSORS
    run = "" if action == "hello" else "run-1"
    (message,) = pack_request(Request(action, run, "abc", 2, 3, tensors, ("validation",)), [7], 60.0)
    message.content.config_records["ask"].__dict__["_data"].update(fields)
    return message


@pytest.mark.parametrize("action", ["hello", "train", "evaluate"])
def test_a_sound_request_is_read(action: str) -> None:
    read = unpack_request(ask(action))
    assert (read.action, read.stage, read.round, read.splits) == (action, 2, 3, ("validation",))


@pytest.mark.parametrize(
    "fields",
    [
        *({"run": run} for run in ("../../other", "/tmp/x", "", "a/b", "x" * 200, 5, SECRET, "run\n")),
        *({"stage": stage} for stage in (-1, 10**400, 1.0, "1", True, None)),
        *({"round": number} for number in (-1, 10**7, 1.0, "1", True, None)),
        *({"splits": splits} for splits in (["all"], ["test", "test"], "test", [1], None, ["../x"], [["test"]])),
        {"study_hash": SECRET},
        {"study_hash": "a" * 65},
    ],
)
def test_a_field_no_server_sends_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="cannot be read") as refused:
        unpack_request(ask(**fields))
    assert SECRET not in str(refused.value)


def test_an_unknown_action_and_tensors_in_a_greeting_are_refused() -> None:
    other = ask()
    other.metadata.message_type = "train.everything"
    greeting = ask("hello")
    declare(greeting.content, "w", "float32", "[3]", bytes(16))
    for message in (other, greeting):
        with pytest.raises(RequestError):
            unpack_request(message)


@pytest.mark.parametrize("name", ["../w", "", "x" * 400, SECRET])
def test_a_tensor_of_no_name_is_refused(name: str) -> None:
    message = ask()
    declare(message.content, name, "float32", "[3]", bytes(16))
    with pytest.raises(RequestError):
        unpack_request(message)


VALUES = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.text(max_size=50),
    st.binary(max_size=20),
    st.lists(st.one_of(st.text(max_size=12), st.sampled_from(["train", "test"]), st.integers()), max_size=4),
    st.sampled_from([10**400, SECRET, "../x", "x" * 5000]),
)
FIELDS = st.dictionaries(st.sampled_from(["run", "study_hash", "stage", "round", "splits"]), VALUES, max_size=3)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    action=st.sampled_from(["hello", "train", "evaluate"]),
    fields=FIELDS,
    data=st.binary(max_size=200),
    raw=st.booleans(),
)
def test_what_is_read_is_within_bounds_whatever_comes(
    action: str, fields: dict[str, object], data: bytes, raw: bool
) -> None:
    message = ask(action, **fields)
    if raw:
        replace_bytes(message.content, data + b"0" * 33)  # of 32 that are declared, at most
    try:
        read = unpack_request(message)
    except RequestError:
        return
    assert not raw
    assert 0 <= read.stage <= 1000
    assert 0 <= read.round <= 10**6
    assert set(read.splits) <= {"train", "validation", "test"}
    assert "/" not in read.run
    assert len(read.run) + len(read.study_hash) < 200
