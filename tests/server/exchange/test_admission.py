"""What is admitted: names, shapes, dtypes, finite values, the usual size, nothing twice."""

from dataclasses import replace

import numpy as np
import pytest

from prostafed.common.exchange.messages import Reply
from prostafed.common.tensors import Tensors
from prostafed.server.exchange.admission import (
    BESIDE,
    Admitted,
    History,
    RejectedError,
    admit_update,
    measure_update,
    take_fingerprint,
)

SENT: Tensors = {"encoder.a": np.zeros((2, 2), np.float32), "encoder.n": np.array([3], np.int64)}
TRAINED: Tensors = {"encoder.a": np.array([[1, 2], [2, 4]], np.float32), "encoder.n": np.array([3], np.int64)}


NONE = History()


def admit(tensors: Tensors, norm_limit: float = 10.0, history: History = NONE) -> Admitted:
    return admit_update(Reply("north", cases=5, tensors=tensors), SENT, (), "none", norm_limit, history)


def changed(**tensors: np.ndarray) -> Tensors:
    return {**TRAINED, **{f"encoder.{name}": array for name, array in tensors.items()}}


def test_an_update_that_fits_is_admitted_with_its_norm() -> None:
    admitted = admit(TRAINED)
    assert admitted.norms == {"network": 5.0}  # sqrt(1 + 4 + 4 + 16)
    assert admitted.tensors == TRAINED


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ({}, "WRONG_TENSORS"),
        (changed(a=np.ones((2, 3), np.float32)), "WRONG_TENSORS"),
        (changed(a=np.ones((2, 2), np.float64)), "WRONG_TENSORS"),
        (changed(extra=np.ones(1, np.float32)), "WRONG_TENSORS"),
        (changed(a=np.array([[1, np.nan], [0, 0]], np.float32)), "NOT_FINITE"),
        (changed(a=np.array([[1, np.inf], [0, 0]], np.float32)), "NOT_FINITE"),
        (changed(a=np.array([[1, -np.inf], [np.inf, 0]], np.float32)), "NOT_FINITE"),
    ],
)
def test_one_that_does_not_fit_is_rejected_with_a_code(tensors: Tensors, code: str) -> None:
    with pytest.raises(RejectedError) as rejected:
        admit(tensors)
    assert rejected.value.code == code


def test_finite_values_with_infinite_squares_are_measured_all_the_same() -> None:
    huge = {"encoder.a": np.full((2, 2), 1e30, np.float32)}
    assert measure_update(huge, SENT, ()) == pytest.approx({"network": 2e30})


@pytest.mark.parametrize(
    ("norms", "limit", "taken"),
    [
        ((0.4,) * 5, 10.0, False),  # 5 > 10 x 0.4
        ((0.5,) * 5, 10.0, True),  # 5 = 10 x 0.5
        ((0.4,) * 4, 10.0, True),  # four are too few to say what is usual
        ((0.4,) * 5, 0.0, True),  # no limit
        ((0.01, 0.01, 0.6, 9.0, 9.0), 10.0, True),  # the median counts, not the mean
        ((0.01, 0.01, 0.4, 99.0, 99.0), 10.0, False),
    ],
)
def test_an_update_far_larger_than_usual_is_rejected(norms: tuple[float, ...], limit: float, taken: bool) -> None:
    if taken:
        admit(TRAINED, limit, History({"network": norms}))
        return
    with pytest.raises(RejectedError) as rejected:
        admit(TRAINED, limit, History({"network": norms}))
    assert (rejected.value.code, str(rejected.value)) == (
        "TOO_FAR",
        "its network moved by 5 (L2 norm of the update); usual are 0.4, and norm_limit takes 10 times that. Lower the "
        "stage's learning_rate if training diverged there, or raise norm_limit",
    )


def test_a_norm_beyond_all_numbers_is_rejected_whatever_is_usual() -> None:
    sent = {"encoder.a": np.zeros(2)}
    with pytest.raises(RejectedError) as rejected:
        admit_update(Reply("north", tensors={"encoder.a": np.full(2, 1e300)}), sent, (), "none", 0.0, NONE)
    assert rejected.value.code == "TOO_FAR"


SCAFFOLD: Tensors = {"encoder.a": np.ones(4, np.float32), "control.encoder.a": np.full(4, 100, np.float32)}
CONTROLS = ("control.encoder.a",)


def scaffold(network: float, control: float, history: History = NONE) -> Admitted:
    """An update that moves four values of the network and of the control variate by so much each."""
    tensors = {
        "encoder.a": SCAFFOLD["encoder.a"] + np.float32(network), "control.encoder.a": np.full(4, control, np.float32)
    }  # fmt: skip
    return admit_update(Reply("north", cases=5, tensors=tensors), SCAFFOLD, CONTROLS, "none", 10.0, history)


def test_control_variates_hide_no_update_and_no_update_hides_them() -> None:
    usual = scaffold(0.5, -300.0)
    assert usual.norms == {"network": 1.0, BESIDE: 600.0}  # of the change that came, not from what was sent
    history = NONE
    for _ in range(5):
        history = history.after({"north": replace(usual, fingerprint=0)})
    scaffold(4.5, 2000.0, history)
    for network, control, group in ((-25.0, 300.0, "network"), (0.5, 15000.0, BESIDE)):
        with pytest.raises(RejectedError, match=f"its {group} moved by") as rejected:
            scaffold(network, control, history)
        assert rejected.value.code == "TOO_FAR"


def test_the_same_update_is_not_taken_again_in_a_later_round() -> None:
    history = History().after({"north": admit(TRAINED)})
    assert history.norms == {"network": (5.0,)}
    with pytest.raises(RejectedError) as rejected:
        admit(TRAINED, history=history)
    assert rejected.value.code == "REPLAYED"
    admit(changed(a=TRAINED["encoder.a"] + np.float32(1e-6)), history=history)
    other = Reply("south", cases=5, tensors=TRAINED)
    admit_update(other, SENT, (), "none", 10.0, history)  # another site may come to the same


def test_an_encoder_that_stays_as_it_is_is_no_replay() -> None:
    frozen = replace(admit(SENT), tensors={})
    assert frozen.norms == {"network": 0.0}
    admit(SENT, history=History().after({"north": frozen}))


def test_history_does_not_depend_on_the_order_of_arrival() -> None:
    first, second = (replace(admit(TRAINED), norms={"network": norm}) for norm in (1.0, 2.0))
    assert History().after({"a": first, "b": second}) == History().after({"b": second, "a": first})


def test_a_fingerprint_sees_every_byte() -> None:
    base = {"w": np.arange(7, dtype=np.uint8), "v": np.arange(3, dtype=np.float32)}
    seen = {take_fingerprint(base)}
    for place in range(7):
        altered = base["w"].copy()
        altered[place] ^= 1
        seen.add(take_fingerprint({**base, "w": altered}))
    assert len(seen) == 8
