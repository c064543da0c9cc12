"""Trouble on purpose: drawn from the seed, in its span of rounds, and what it does to an update."""

import numpy as np
import pytest

from prostafed.common.errors import ConfigurationError
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.shell.configuration import parse
from prostafed.simulations.federation.faults import Fault, Faults, flip_labels, tamper

SENT = {"encoder.w": np.array([1.0, 2.0], np.float32)}
TRAINED = {"encoder.w": np.array([2.0, 0.0], np.float32)}


def fault(kind: str, **keys: object) -> Fault:
    return parse({"kind": kind, **keys}, Fault, "test")


def test_a_fault_happens_in_its_span_counted_over_all_stages() -> None:
    faults = Faults({"north": [fault("crash", first_round=3, last_round=4)]}, seed=1, rounds=[2, 3])
    happening = [
        (stage, number)
        for stage, number in [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
        if faults.happening("north", stage, number)
    ]
    assert happening == [(2, 1), (2, 2)]
    assert not faults.happening("south", 2, 1)
    assert [faults.after(1, 1), faults.after(1, 2), faults.after(2, 3)] == [(1, 2), (2, 1), (3, 1)]


def test_its_probability_is_drawn_from_the_seed() -> None:
    def rounds(seed: int) -> list[bool]:
        faults = Faults({"north": [fault("dropout", probability=0.3)]}, seed, [1000])
        return [bool(faults.happening("north", 1, number)) for number in range(1, 1001)]

    assert rounds(1) == rounds(1) != rounds(2)
    faults = Faults({"north": [fault("dropout", probability=0.3)]}, 1, [1000])
    tries = [bool(faults.happening("north", 1, 1, attempt)) for attempt in range(1, 1001)]
    assert 250 < sum(tries) < 350, "a round tried again meets other trouble"
    assert 250 < sum(rounds(1)) < 350  # 300 expected, standard deviation 14.5


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("sign_flip", [0.0, 4.0]), ("scaled", [4.0, -4.0])],  # 1 - 1, 2 + 2; 1 + 3 x 1, 2 - 3 x 2
)
def test_an_update_is_turned_round_or_blown_up(kind: str, expected: list[float]) -> None:
    faults = {kind: fault(kind, **({"factor": 3.0} if kind == "scaled" else {}))}
    np.testing.assert_array_equal(tamper(faults, SENT, TRAINED, "none")["encoder.w"], expected)
    difference = {"encoder.w": (TRAINED["encoder.w"] - SENT["encoder.w"]).astype(np.float16)}
    travelling = tamper(faults, SENT, difference, "float16")["encoder.w"]
    assert travelling.dtype == np.float16
    np.testing.assert_array_equal(SENT["encoder.w"] + travelling, expected)


def test_the_places_of_a_sparse_update_are_left_alone() -> None:
    payload = {"places.encoder.w": np.array([1], np.int32), "values.encoder.w": np.array([-2], np.float16)}
    spoilt = tamper({"sign_flip": fault("sign_flip")}, SENT, payload, "topk")
    assert spoilt["places.encoder.w"].tolist() == [1]
    assert spoilt["values.encoder.w"].tolist() == [2]


def test_nan_and_wrong_shape() -> None:
    assert np.isnan(tamper({"nan": fault("nan")}, SENT, TRAINED, "none")["encoder.w"]).all()
    assert tamper({"wrong_shape": fault("wrong_shape")}, SENT, TRAINED, "none")["encoder.w"].shape == (2, 1)
    assert tamper({"nan": fault("nan")}, SENT, {}, "none") == {}


def test_whole_numbers_can_have_a_wrong_shape_and_are_else_left_alone() -> None:
    whole = {"encoder.w": np.array([1, 2], np.uint32)}
    assert tamper({"straggler": fault("straggler", delay_s=1.0)}, SENT, whole, "fixed32") == whole
    assert tamper({"wrong_shape": fault("wrong_shape")}, SENT, whole, "fixed32")["encoder.w"].shape == (2, 1)


def test_labels_are_turned_round_and_unknown_ones_stay_unknown() -> None:
    flipped = flip_labels(CaseRecord("c", "p", pirads_reads=(1, 2, 5), cspca=True, isup=3))
    assert (flipped.cspca, flipped.pirads_reads, flipped.isup) == (False, (5, 4, 1), None)
    assert flip_labels(CaseRecord("c", "p")).cspca is None


def test_a_span_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="last_round must be at least first_round, 3, found 2"):
        fault("crash", first_round=3, last_round=2)
