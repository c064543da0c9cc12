"""Compressed replies: what arrives, what is owed, what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prostafed.common.errors import CheckpointError
from prostafed.common.exchange.arrays import join_arrays, read_arrays
from prostafed.common.exchange.compression import RULES, decode, encode, list_slots
from prostafed.common.tensors import Tensors, check_layout


def make(seed: int = 0, scale: float = 1.0) -> Tensors:
    rng = np.random.default_rng(seed)
    return {
        "encoder.bias": (scale * rng.normal(size=())).astype(np.float32),
        "encoder.conv": (scale * rng.normal(size=(4, 5))).astype(np.float32),
        "encoder.count": np.array([seed], np.int64),
    }


def train(sent: Tensors, seed: int, scale: float = 1e-3) -> Tensors:
    change = make(seed, scale)
    return {name: (array + change[name]).astype(array.dtype) for name, array in sent.items()}


def flatten(tensors: Tensors) -> np.ndarray:
    return np.concatenate([tensors[name].reshape(-1) for name in sorted(tensors) if tensors[name].dtype == np.float32])


def test_none_is_the_tensors_themselves() -> None:
    sent, trained = make(0), make(1)
    payload, residual = encode(sent, trained, "none", 1.0, {})
    assert (payload, residual) == (trained, {})
    assert decode(sent, payload, "none") == dict(sorted(trained.items()))


@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-6, 1e-3, 1.0, 1e3]))
def test_float16_is_right_to_eleven_bits_of_the_difference(seed: int, scale: float) -> None:
    sent = make(seed)
    trained = train(sent, seed + 1, scale)
    payload, residual = encode(sent, trained, "float16", 1.0, {})
    received = decode(sent, payload, "float16")
    check_layout(trained, received)
    assert residual == {}
    assert payload["encoder.conv"].dtype == np.float16
    change = np.abs(flatten(trained) - flatten(sent))
    error = np.abs(flatten(received).astype(np.float64) - flatten(trained))
    assert (error <= change * 2.0**-11 + 2.0**-25 + np.abs(flatten(trained)) * 2.0**-23).all()
    assert received["encoder.count"].tolist() == trained["encoder.count"].tolist()


@pytest.mark.parametrize("far", [1e5, -1e5, np.inf, np.nan])
def test_what_float16_cannot_hold_travels_whole(far: float) -> None:
    sent = make(0)
    trained = {**sent, "encoder.conv": np.full((4, 5), far, np.float32)}
    payload, _ = encode(sent, trained, "float16", 1.0, {})
    assert (payload["encoder.conv"].dtype, payload["encoder.bias"].dtype) == (np.float32, np.float16)
    np.testing.assert_array_equal(decode(sent, payload, "float16")["encoder.conv"], trained["encoder.conv"])


def test_a_float16_tensor_is_no_difference() -> None:
    sent, trained = {"w": np.float16([1.0, 2.0])}, {"w": np.float16([3.0, 4.0])}
    payload, _ = encode(sent, trained, "float16", 1.0, {})
    assert decode(sent, payload, "float16")["w"].tolist() == [3.0, 4.0]


def test_topk_by_hand() -> None:
    sent = {"a": np.zeros(3, np.float32), "b": np.ones((2, 1), np.float32), "n": np.array([1], np.int32)}
    trained = {"a": np.float32([0.25, -4.0, 1.0]), "b": np.float32([[3.0], [1.5]]), "n": np.array([2], np.int32)}
    payload, residual = encode(sent, trained, "topk", 0.4, {})
    assert {name: array.tolist() for name, array in payload.items()} == {
        "n": [2], "places.a": [1], "values.a": [-4.0], "places.b": [0], "values.b": [2.0],
    }  # fmt: skip
    assert {name: array.tolist() for name, array in residual.items()} == {"a": [0.25, 0.0, 1.0], "b": [[0.0], [0.5]]}
    received = decode(sent, payload, "topk")
    assert {name: array.tolist() for name, array in received.items()} == {
        "a": [0.0, -4.0, 0.0], "b": [[3.0], [1.0]], "n": [2],
    }  # fmt: skip
    # without further training what is owed is sent, the largest first
    payload, residual = encode(received, received, "topk", 0.2, residual)
    assert decode(received, payload, "topk")["a"].tolist() == [0.0, -4.0, 1.0]
    assert residual["a"].tolist() == [0.25, 0.0, 0.0]


@given(seed=st.integers(0, 1000), fraction=st.floats(0.01, 1.0))
def test_topk_sends_the_share_asked_for(seed: int, fraction: float) -> None:
    sent = make(seed)
    trained = train(sent, seed + 1)
    payload, _ = encode(sent, trained, "topk", fraction, {})
    sizes = [array.size for name, array in payload.items() if name.startswith("values.")]
    assert sum(sizes) == max(1, int(np.ceil(fraction * 21)))
    places = {name: payload[f"places.{name}"] for name in ("encoder.bias", "encoder.conv")}
    chosen = np.concatenate([places["encoder.bias"], 1 + places["encoder.conv"]])
    change = np.abs(flatten(trained).astype(np.float64) - flatten(sent))
    assert change[chosen].min() >= np.delete(change, chosen).max(initial=0.0)


@given(seed=st.integers(0, 200), fraction=st.sampled_from([0.05, 0.3, 1.0]))
def test_error_feedback_sums_to_the_truth(seed: int, fraction: float) -> None:
    """Over many rounds, what arrived and what is still owed are together what was trained."""
    server, residual, truth = make(seed), {}, flatten(make(seed)).astype(np.float64)
    for step in range(12):
        trained = train(server, seed + step, 1e-2)
        truth += flatten(trained).astype(np.float64) - flatten(server)
        payload, residual = encode(server, trained, "topk", fraction, residual)
        server = decode(server, payload, "topk")
    np.testing.assert_allclose(flatten(server).astype(np.float64) + flatten(residual), truth, atol=1e-6)


def test_without_feedback_it_would_not() -> None:
    server, owed = make(0), np.zeros(21)
    for step in range(12):
        trained = train(server, step, 1e-2)
        payload, residual = encode(server, trained, "topk", 0.05, {})
        owed += flatten(residual)
        server = decode(server, payload, "topk")
    assert np.abs(owed).max() > 1e-2


def test_topk_values_float16_cannot_hold_travel_in_full() -> None:
    sent = {"a": np.zeros(3, np.float32), "b": np.zeros(3, np.float32)}
    trained = {"a": np.float32([1e6, 0.0, 0.1]), "b": np.float32([1.0, 0.0, 0.0])}
    payload, _ = encode(sent, trained, "topk", 1.0, {})
    assert (payload["values.a"].dtype, payload["values.b"].dtype) == (np.float32, np.float16)
    assert decode(sent, payload, "topk")["a"].tolist() == trained["a"].tolist()


def test_topk_shows_admission_what_is_not_finite_and_does_not_keep_it() -> None:
    sent = make(0)
    trained = {**sent, "encoder.conv": np.where(np.eye(4, 5, dtype=bool), np.nan, sent["encoder.conv"])}
    payload, residual = encode(sent, trained, "topk", 0.05, {})
    assert np.isnan(decode(sent, payload, "topk")["encoder.conv"]).any()
    assert np.isfinite(flatten(residual)).all()


@pytest.mark.parametrize("rule", RULES)
def test_a_site_may_hold_fewer_tensors(rule: str) -> None:
    sent = make(0)
    trained = {name: array for name, array in train(sent, 1).items() if name != "encoder.bias"}
    payload, _ = encode(sent, trained, rule, 1.0, {})
    received = decode(sent, payload, rule)
    check_layout(trained, received)
    np.testing.assert_allclose(received["encoder.conv"], trained["encoder.conv"], atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_what_comes_in_is_not_changed(rule: str) -> None:
    sent, trained, residual = make(0), make(1), make(2)
    before = [array.tobytes() for tensors in (sent, trained, residual) for array in tensors.values()]
    payload, _ = encode(sent, trained, rule, 0.5, residual)
    decode(sent, payload, rule)
    assert [array.tobytes() for tensors in (sent, trained, residual) for array in tensors.values()] == before


def int32(*places: int) -> np.ndarray:
    return np.array(places, np.int32)


@pytest.mark.parametrize(
    ("rule", "change", "match"),
    [
        ("none", {"other": np.zeros(1)}, "other is not part of the model"),
        ("none", {"encoder.conv": np.zeros((4, 5))}, r"float64\[4, 5\], which rule none does not make of float32"),
        ("none", {"encoder.conv": np.zeros(20, np.float32)}, r"encoder.conv is float32\[20\]"),
        ("none", {"encoder.conv": np.zeros((4, 5), np.float16)}, "rule none does not make"),
        ("float16", {"encoder.count": np.zeros(1, np.float16)}, "encoder.count is float16"),
        ("float16", {"encoder.conv": np.zeros((5, 4), np.float16)}, r"encoder.conv is float16\[5, 4\]"),
        ("topk", {"places.other": int32(0)}, "other is not part of the model"),
        ("topk", {"encoder.conv": np.zeros((4, 5), np.float32)}, "rule topk does not make"),
        ("topk", {"places.encoder.conv": None}, "values.encoder.conv came alone"),
        ("topk", {"values.encoder.conv": None}, "places.encoder.conv came alone"),
        ("topk", {"places.encoder.conv": np.array([0, 1], np.int64)}, "expected one list of int32"),
        ("topk", {"places.encoder.conv": int32(0, 1, 2)}, r"places int32\[3\] and values float16\[2\]"),
        ("topk", {"values.encoder.conv": np.zeros(2, np.float64)}, "as many float16 or float32"),
        ("topk", {"values.encoder.conv": np.zeros((2, 1), np.float16)}, "expected one list"),
        ("topk", {"places.encoder.count": int32(0), "values.encoder.count": np.float16([1])}, "for a floating tensor"),
        ("topk", {"places.encoder.conv": int32(1, 0)}, "do not ascend"),
        ("topk", {"places.encoder.conv": int32(1, 1)}, "do not ascend"),
        ("topk", {"places.encoder.conv": int32(-1, 3)}, "do not ascend from 0 to at most 19"),
        ("topk", {"places.encoder.conv": int32(3, 20)}, "do not ascend from 0 to at most 19"),
    ],
)
def test_malformed_payloads_are_refused(rule: str, change: dict[str, np.ndarray | None], match: str) -> None:
    sent = make(0)
    payload, _ = encode(sent, train(sent, 1), rule, 0.1, {})
    payload |= {"places.encoder.conv": int32(2, 7), "values.encoder.conv": np.float16([1, 2])} if rule == "topk" else {}
    decode(sent, payload, rule)
    for name, array in change.items():
        if array is None:
            del payload[name]
        else:
            payload[name] = array
    with pytest.raises(CheckpointError, match=match):
        decode(sent, payload, rule)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("fraction", [1e-9, 0.3, 1.0])
def test_what_encode_makes_fits_the_slots_and_a_value_more_does_not(rule: str, fraction: float) -> None:
    sent = {"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float64), "n": np.array([1], np.int64)}
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1e6):  # beyond 65504 float16 has no room
        trained = {
            name: (array + rng.normal(size=array.shape) * scale).astype(array.dtype) for name, array in sent.items()
        }
        payload, _ = encode(sent, trained, rule, fraction, {})
        layout = list_slots(sent, rule, fraction)
        read = read_arrays(*join_arrays(payload), layout)
        assert {name: array.tobytes() for name, array in read.items()} == {
            name: array.tobytes() for name, array in payload.items()
        }
        name = min(payload)
        more = np.zeros(max(array.size for array in sent.values()) + 1, payload[name].dtype)
        with pytest.raises(CheckpointError, match="expected"):
            read_arrays(*join_arrays({**payload, name: more}), layout)
