"""One hostile reply among three, in a real round in this process: it costs that reply, and nothing else.

Replies are handed over as they are, not crossed by wire first, so that values no wire would carry are tried as well.
"""

import io
import json
import pickle
import time
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prostafed.common.aggregation import NoParameters
from prostafed.common.exchange.arrays import join_arrays
from prostafed.common.exchange.compression import encode
from prostafed.common.exchange.kinds import REFUSALS
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.exchange.wire import pack_reply, unpack_request
from prostafed.common.study import Round
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation import build_aggregator
from prostafed.server.exchange.exchange import Exchange, Terms, ask_sites
from prostafed.server.run.checkpoints import RunState
from prostafed.server.run.updates import OpenUpdates
from prostafed.simulations.run.engine.grid import LocalGrid, cross_wire, identify
from tests.common.exchange.messages_changed import declare, replace_bytes

SENT: Tensors = {"encoder.n": np.array([3], np.int64), "encoder.w": np.arange(6, dtype=np.float32).reshape(2, 3)}
STEPS = {"a": 1.0, "bad": 2.0, "c": 3.0}
SECRET = "Smith^John"  # what a site must not be able to write into anybody's record
Mutation = Callable[[RecordDict], RecordDict | Error]


class RawGrid(LocalGrid):
    """A grid that hands over what a site answers as it is."""

    def _answer(self, message: Message) -> Message:
        asked = cross_wire(message)
        return identify(self._client_app(asked, self._contexts[message.metadata.dst_node_id]))


class BrokenGrid(LocalGrid):
    """A grid on which Flower itself cannot read what the second node sent, while the link is well."""

    def _answer(self, message: Message) -> Message:
        if message.metadata.dst_node_id == sorted(self._contexts)[1]:
            raise ValueError("Unexpected set of `children`.")
        return super()._answer(message)


def run_round(
    mutate: Mutation, rule: str = "none", kind: type[LocalGrid] = RawGrid
) -> tuple[Exchange, dict[str, float], Tensors]:
    """Return a round's exchange, the cases taken by site, and the tensors it ended with."""
    app, section = ClientApp(), Round(compress=rule)

    @app.train("round")
    def answer(message: Message, context: Context) -> Message:
        request, site = unpack_request(message), str(context.node_config["site"])
        trained = {name: (array + STEPS[site]).astype(array.dtype) for name, array in request.tensors.items()}
        payload, _ = encode(request.tensors, trained, rule, section.top_fraction, {})
        metrics = {"train/loss": 0.5, "train/steps": 4.0}
        reply = pack_reply(Reply(site, "abc", 1, 1, 5, payload, metrics), message)
        if site != "bad":
            return reply
        mutated = mutate(reply.content)
        return Message(mutated, reply_to=message)

    updates = OpenUpdates(
        RunState(1, 0, SENT), frozenset(SENT), build_aggregator("fedavg", NoParameters()), section, 3, 0
    )
    grid = kind(app, [{"site": site} for site in STEPS], {})
    nodes = dict(zip(STEPS, grid.get_node_ids(), strict=True))
    request = Request("train", "run", "abc", 1, 1, SENT, returns=updates.returns)
    exchange, _ = ask_sites(grid, nodes, request, Terms(30.0), updates.take)
    state, diagnostics = updates.finish(1, 1)
    assert all(np.isfinite(value) for value in diagnostics.values())
    return exchange, {site: reply.cases for site, reply in updates.replies.items()}, state.tensors


def check_round(exchange: Exchange, cases: dict[str, float], tensors: Tensors, rule: str) -> None:
    """The good ones are in the mean; of the bad one nothing is, and nothing it said is repeated."""
    assert {"a", "c"} <= set(exchange.replies)
    assert SECRET not in repr(exchange)
    if "bad" in exchange.replies:
        return
    assert [entry["site"] for entry in exchange.rejections] == ["bad"]
    assert set(cases) == {"a", "c"}
    if rule == "none":
        np.testing.assert_array_equal(tensors["encoder.w"], SENT["encoder.w"] + 2)


def zipped() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, w=np.ones((2, 3), np.float32))
    return buffer.getvalue()


GOOD = np.ones((2, 3), np.float32).tobytes()
BYTES = {
    "none at all": b"",
    "an .npz": zipped(),
    "a bomb of a zip": b"PK\x03\x04" + bytes(200),
    "a pickled array": pickle.dumps(np.ones((2, 3))),
    "too short": bytes(47),
    "too long": bytes(49),
}


def with_bytes(data: bytes) -> Mutation:
    return lambda content: replace_bytes(content, data)


def with_tensor(name: str, dtype: str = "float32", shape: str = "[2, 3]", data: bytes = GOOD) -> Mutation:
    return lambda content: declare(content, name, dtype, shape, data)


def with_value(value: float) -> Mutation:
    tensors = {"encoder.n": SENT["encoder.n"], "encoder.w": np.full((2, 3), value, np.float32)}
    return lambda content: replace_bytes(content, join_arrays(tensors)[1])


def with_field(record: str, name: str, value: object) -> Mutation:
    def mutate(content: RecordDict) -> RecordDict:
        records = content.metric_records if record == "metrics" else content.config_records
        records[record].__dict__["_data"][name] = value  # past the checks Flower makes at the sender
        return content

    return mutate


def without(record: str) -> Mutation:
    def mutate(content: RecordDict) -> RecordDict:
        del content[record]
        return content

    return mutate


def rejection(mutate: Mutation, rule: str = "none") -> str:
    """Return the code that a mutated reply is rejected with."""
    exchange, cases, tensors = run_round(mutate, rule)
    check_round(exchange, cases, tensors, rule)
    (entry,) = exchange.rejections
    return entry["code"]


@pytest.mark.parametrize("kind", BYTES)
def test_bytes_that_are_not_the_declared_array(kind: str) -> None:
    assert rejection(with_bytes(BYTES[kind])) == "MALFORMED"


@pytest.mark.parametrize(
    ("mutate", "code"),
    [
        (with_tensor("encoder.w", shape=f"[{1 << 21}, {1 << 21}]"), "WRONG_TENSORS"),
        (with_tensor("encoder.w", dtype="float64"), "WRONG_TENSORS"),
        (with_tensor("encoder.w", dtype="object"), "MALFORMED"),
        *(
            (with_tensor("encoder.w", shape=shape), "MALFORMED")
            for shape in ("[-2, -3]", "2, 3", "[2, [3]]", "[" * 5000)
        ),
        (with_tensor("encoder.w", shape="[" + "9" * 400 + "]"), "MALFORMED"),
        (with_tensor(SECRET), "WRONG_TENSORS"),
        (with_tensor("head.w"), "WRONG_TENSORS"),
        (with_field("layout", "names", ["encoder.n", "encoder.n"]), "MALFORMED"),
        (with_field("layout", "names", ["encoder.n"]), "MALFORMED"),
        (with_field("layout", "names", [1, 2]), "MALFORMED"),
        (with_field("layout", "dtypes", "int64"), "MALFORMED"),
        *((without(record), "MALFORMED") for record in ("answer", "layout", "metrics", "tensors")),
        *(
            (with_field("metrics", "train/steps", value), "MALFORMED")
            for value in (float("nan"), float("inf"), -1.0, 0.5, 1e30, 10**400, "4", [4.0], True)
        ),
        (with_field("metrics", "train/loss", float("nan")), "MALFORMED"),
        (with_field("metrics", f"train/{SECRET}", 1.0), "MALFORMED"),
        (with_field("metrics", "test/auroc", 0.9), "MALFORMED"),  # listed, and not what was asked
        (with_field("metrics", "cohort/csPCa/yes", 30.0), "MALFORMED"),
        *(
            (with_field("answer", "cases", value), "MALFORMED")
            for value in (10**400, -1, 10**8, 5.0, True, "5", float("nan"))
        ),
        *((with_field("answer", "round", value), "MALFORMED") for value in (10**400, -1, "1", 1.0)),
        *((with_field("answer", "site", value), "MALFORMED") for value in (SECRET, "x" * 10**6, b"bad", "")),
        (with_field("answer", "site", "c"), "WRONG_NAME"),
        (with_field("answer", "study_hash", SECRET), "MALFORMED"),
        (lambda content: Error(100, f"/scans/{SECRET}"), "UNKNOWN_REFUSAL"),
        (lambda content: Error(2, f"FileNotFoundError: /scans/{SECRET}"), "FLOWER_ERROR"),
        (lambda content: Error(10**400, None), "FLOWER_ERROR"),
        *((lambda content, code=code: Error(100, code), code) for code in REFUSALS),
    ],
)
def test_what_is_no_answer_costs_that_answer(mutate: Mutation, code: str) -> None:
    assert rejection(mutate) == code


def test_what_diverged_is_told_in_figures_and_what_to_do() -> None:
    exchange, cases, tensors = run_round(with_value(1e30))
    check_round(exchange, cases, tensors, "none")
    (entry,) = exchange.rejections
    assert entry["code"] == "TOO_LARGE"
    assert entry["text"] == (
        "encoder.w holds 1e+30, too large for an exact sum; expected below 4.19e+05 at its weight of 5; the largest "
        "that was sent to it was 5. Training diverged at the site: lower the stage's learning_rate"
    )


@pytest.mark.parametrize("name", ["places.encoder.w", "values.encoder.w"])
def test_more_values_than_topk_sends(name: str) -> None:
    dtype = "int32" if name.startswith("places") else "float16"
    assert rejection(with_tensor(name, dtype, "[2]"), "topk") == "WRONG_TENSORS"  # of 6 values 5 % is 1


def test_more_bytes_than_topk_sends_over_all_tensors() -> None:
    def spread(content: RecordDict) -> RecordDict:
        for prefix, dtype in (("places.", "int32"), ("values.", "float32")):
            declare(content, f"{prefix}encoder.w", dtype, "[4]", bytes(16))
        return content

    assert rejection(spread, "topk") == "WRONG_TENSORS"


def test_what_flower_cannot_read_costs_that_answer_and_a_link_that_fails_is_said() -> None:
    exchange, cases, tensors = run_round(lambda content: content, kind=BrokenGrid)
    check_round(exchange, cases, tensors, "none")
    assert [entry["code"] for entry in exchange.rejections] == ["MALFORMED"]

    class DeadGrid(BrokenGrid):
        asked = 0

        def get_node_ids(self) -> list[int]:
            self.asked += 1
            if self.asked > 1:
                raise ConnectionError("link")
            return list(super().get_node_ids())

    with pytest.raises(ConnectionError):
        run_round(lambda content: content, kind=DeadGrid)


NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.sampled_from([10**400, -(10**400), 2**63, 2**31, 0, 1, 5, float("nan"), float("inf"), 1e308]),
)
TEXTS = st.one_of(st.text(max_size=60), st.sampled_from([SECRET, "a", "c", "abc", "../../x", "x" * 5000, "\x00"]))
VALUES = st.one_of(NUMBERS, TEXTS, st.binary(max_size=40), st.lists(NUMBERS, max_size=3), st.lists(TEXTS, max_size=3))
FIELDS = st.builds(
    with_field, st.just("answer"), st.sampled_from(["site", "study_hash", "stage", "round", "cases", "other"]), VALUES
)
METRICS = st.builds(
    with_field,
    st.just("metrics"),
    st.one_of(st.sampled_from(["train/steps", "train/loss", "train/generated", "test/n", "cohort/csPCa/yes"]), TEXTS),
    VALUES,
)


@st.composite
def arrays(draw: st.DrawFn) -> Mutation:
    """A tensor whose bytes, dtype, shape and name are each what was asked for or anything."""
    data = bytearray(draw(st.sampled_from([GOOD, *BYTES.values()])))
    for place in draw(st.lists(st.integers(0, max(0, len(data) - 1)), max_size=4)):
        if place < len(data):
            data[place] = draw(st.integers(0, 255))
    cut = draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))
    data = data[:cut] + draw(st.one_of(st.just(b""), st.binary(max_size=20)))
    dtype = draw(st.one_of(st.sampled_from(["float32", "float16", "object", "int64", "V8", "<f4"]), TEXTS))
    sizes = st.one_of(st.sampled_from([(2, 3), (6,), (), (1 << 40, 1 << 40)]), st.lists(st.integers(), max_size=3))
    shape = draw(st.one_of(sizes.map(lambda size: json.dumps(list(size))), TEXTS))
    name = draw(st.one_of(st.sampled_from([*SENT, "values.encoder.w", "places.encoder.w"]), TEXTS))
    return with_tensor(name, dtype, shape, bytes(data))


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    mutations=st.lists(st.one_of(FIELDS, METRICS, arrays()), min_size=1, max_size=3),
    rule=st.sampled_from(["none", "float16", "topk"]),
)
def test_nothing_that_comes_by_wire_ends_a_round(mutations: list[Mutation], rule: str) -> None:
    def mutate(content: RecordDict) -> RecordDict:
        for each in mutations:
            each(content)
        return content

    exchange, cases, tensors = run_round(mutate, rule)
    check_round(exchange, cases, tensors, rule)
    assert all(np.isfinite(array).all() for array in tensors.values())


def test_an_answer_that_is_long_in_coming_costs_no_other() -> None:
    """Flower's pull waits for a message to be uploaded, long past the deadline; meanwhile the first site answers."""
    app, started = ClientApp(), time.monotonic()

    @app.train("round")
    def answer(message: Message, context: Context) -> Message:
        return pack_reply(Reply(str(context.node_config["site"]), "abc", 1, 1, 5), message)

    class SlowGrid(LocalGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            (message_id,) = message_ids
            site = self._pushed[message_id].metadata.dst_node_id - min(self._contexts)
            if site == 0 and time.monotonic() < started + 0.1:
                return []
            if site == 1:
                time.sleep(0.8)
            return super().pull_messages(message_ids)

    grid = SlowGrid(app, [{"site": site} for site in ("a", "bad")], {})
    nodes = dict(zip(("a", "bad"), grid.get_node_ids(), strict=True))
    exchange, _ = ask_sites(grid, nodes, Request("train", "run", "abc", 1, 1), Terms(0.4), lambda site, reply: None)
    assert "a" in exchange.replies
