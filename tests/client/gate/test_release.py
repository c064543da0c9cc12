"""The gate: exactly what the study shares leaves, nothing else."""

import numpy as np
import pytest

from prostafed.client.gate.release import ReleaseError, check_update, list_payload, list_update, release
from prostafed.common.exchange.compression import encode
from prostafed.common.exchange.messages import Reply
from prostafed.common.tensors import Tensors

NETWORK: Tensors = {
    "encoder.norm": np.zeros(4),
    "encoder.weight": np.zeros(3),
    "encoder.count": np.zeros(2, np.int64),
    "head.weight": np.zeros(1),
}
SHARED = ("encoder.weight", "encoder.count")  # norms stay: the same group, and yet they may not leave


def take(*names: str) -> Tensors:
    return {name: NETWORK.get(name, np.zeros(1)) for name in names}


def test_the_shared_tensors_leave() -> None:
    check_update(take(*SHARED), list_update(NETWORK, SHARED, ""))
    reply = Reply("north", tensors=take(*SHARED), metrics={"train/loss": 0.1, "train/steps": 3.0})
    assert release(reply, SHARED) is reply


@pytest.mark.parametrize(
    "names",
    [
        (*SHARED, "head.weight"),
        (*SHARED, "encoder.norm"),
        (*SHARED, "secret"),
        (*SHARED, "control.encoder.weight"),
        ("encoder.weight",),
        (),
    ],
)
def test_a_head_a_local_part_an_unknown_tensor_or_less_than_all_do_not(names: tuple[str, ...]) -> None:
    with pytest.raises(ReleaseError, match="Nothing was sent"):
        check_update(take(*names), list_update(NETWORK, SHARED, ""))
    with pytest.raises(ReleaseError, match="Nothing was sent"):
        release(Reply("north", tensors=take(*names)), SHARED)


def test_a_tensor_of_another_shape_does_not() -> None:
    with pytest.raises(ReleaseError, match=r"encoder\.weight"):
        check_update({**take(*SHARED), "encoder.weight": np.zeros(1000)}, list_update(NETWORK, SHARED, ""))


def test_control_variates_leave_under_scaffold_only_and_for_shared_floating_tensors_only() -> None:
    layout = list_update(NETWORK, SHARED, "scaffold")
    assert set(layout) == {*SHARED, "control.encoder.weight"}
    check_update({**take(*SHARED), "control.encoder.weight": np.ones(3)}, layout)
    with pytest.raises(ReleaseError, match=r"control\.head"):
        check_update({**take(*SHARED), "control.encoder.weight": np.ones(3), "control.head": np.ones(1)}, layout)


@pytest.mark.parametrize("rule", ["none", "float16", "topk"])
def test_the_names_of_a_payload_are_those_compression_gives(rule: str) -> None:
    layout = list_update(NETWORK, SHARED, "scaffold")
    payload, _ = encode(layout, {name: array + 1 for name, array in layout.items()}, rule, 0.2, {})
    names = list_payload(layout, rule)
    assert set(payload) == names
    release(Reply("north", tensors=payload), names)
    with pytest.raises(ReleaseError, match=r"values\.head"):
        release(Reply("north", tensors={**payload, "values.head.weight": np.ones(1)}), names)


@pytest.mark.parametrize(
    "metrics",
    [
        {"train/age_of_patient": 61.0},
        {"case-17/loss": 0.1},
        {"loss": 0.1},
        {"train/loss": float("nan")},
        {"cohort/patient": 7.0},
        {"cohort/loss": 0.1},
    ],
)
def test_a_metric_that_is_not_listed_or_not_finite_does_not(metrics: dict[str, float]) -> None:
    with pytest.raises(ReleaseError, match="may leave"):
        release(Reply("north", metrics=metrics), ())
