"""The gate: exactly what the study shares leaves, nothing else, and by one way."""

import ast
from pathlib import Path

import numpy as np
import pytest

from prostafed.client.gate.allowance import list_update
from prostafed.client.gate.checks import Bounds
from prostafed.client.gate.release import Released, ReleaseError, check_update
from prostafed.client.gate.release import release as release_within
from prostafed.common.exchange.arrays import NOTHING, Layout
from prostafed.common.exchange.compression import encode, list_slots
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.tensors import Tensors

NETWORK: Tensors = {
    "encoder.norm": np.zeros(4),
    "encoder.weight": np.zeros(3),
    "encoder.count": np.zeros(2, np.int64),
    "head.weight": np.zeros(1),
}
SHARED = ("encoder.weight", "encoder.count")  # norms stay: the same group, and yet they may not leave


def release(reply: Reply, payload: Layout) -> Released:
    """Return `reply` where it may leave: here none is about a study, and its metrics say what was asked for."""
    split = next(iter(reply.metrics), "").partition("/")[0]
    action = {"train": "train", "cohort": "hello"}.get(split, "evaluate")
    return release_within(reply, payload, Bounds("north", "", Request(action, splits=(split,))))


def allowing(sends: str = "", compress: str = "none") -> Layout:
    return list_slots(list_update(NETWORK, SHARED, sends), compress, 0.2)


def take(*names: str) -> Tensors:
    return {name: NETWORK.get(name, np.zeros(1)) for name in names}


def test_the_shared_tensors_leave() -> None:
    check_update(take(*SHARED), list_update(NETWORK, SHARED, ""))
    reply = Reply("north", cases=5, tensors=take(*SHARED), metrics={"train/loss": 0.1, "train/steps": 3.0})
    assert release(reply, allowing()) is reply


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
        release(Reply("north", tensors=take(*names)), allowing())


def test_a_tensor_of_another_shape_does_not() -> None:
    large, whole = {"encoder.weight": np.zeros(1000)}, {"encoder.weight": np.zeros(3, np.int64)}
    with pytest.raises(ReleaseError, match=r"encoder\.weight"):
        check_update({**take(*SHARED), **large}, list_update(NETWORK, SHARED, ""))
    for compress in ("none", "float16"):
        for odd in (large, whole):
            with pytest.raises(ReleaseError, match=r"encoder\.weight"):
                release(Reply("north", tensors={**take(*SHARED), **odd}), allowing(compress=compress))


def test_control_variates_leave_under_scaffold_only_and_for_shared_floating_tensors_only() -> None:
    layout = list_update(NETWORK, SHARED, "control.")
    assert set(layout) == {*SHARED, "control.encoder.weight"}
    check_update({**take(*SHARED), "control.encoder.weight": np.ones(3)}, layout)
    with pytest.raises(ReleaseError, match=r"control\.head"):
        check_update({**take(*SHARED), "control.encoder.weight": np.ones(3), "control.head": np.ones(1)}, layout)


@pytest.mark.parametrize("rule", ["none", "float16", "topk"])
def test_the_names_of_a_payload_are_those_compression_gives(rule: str) -> None:
    layout = list_update(NETWORK, SHARED, "control.")
    payload, _ = encode(layout, {name: array + 1 for name, array in layout.items()}, rule, 0.2, {})
    allowed = allowing("control.", rule)
    assert set(payload) == set(allowed.slots)
    release(Reply("north", tensors=payload), allowed)
    with pytest.raises(ReleaseError, match=r"values\.head"):
        release(Reply("north", tensors={**payload, "values.head.weight": np.ones(1)}), allowed)


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
        release(Reply("north", cases=5, metrics=metrics), NOTHING)


CLIENT = Path(__file__).parents[3] / "client"


def find_uses(name: str, folder: Path = CLIENT) -> list[str]:
    """Return the functions of a folder's modules that use a name, as module:function."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            inner = [node for statement in function.body for node in ast.walk(statement)]
            used = {each.id for each in inner if isinstance(each, ast.Name)}
            used |= {each.attr for each in inner if isinstance(each, ast.Attribute)}
            if name in used:
                found.append(f"{path.relative_to(folder).with_suffix('')}:{function.name}")
    return found


def test_there_is_one_way_out() -> None:
    """Messages are packed in one place, which takes a `Released` or a `Refusal`; one function makes either, and what
    is released is released where requests are answered. Beside it the link sends codes of refusals.
    """
    assert find_uses("pack_reply") == ["app:_send"]
    assert find_uses("_send") == ["app:handle", "app:__call__"]
    dicom = "ingest/pacs/association:associated"  # an association with an archive is released, too
    version = "connect/health:check_release"  # and a release of prostafed is one
    assert find_uses("release") == [version, dicom, "rounds/answer:answer"]
    assert find_uses("Released") == ["gate/release:release"]
    assert find_uses("Refusal") == ["gate/release:refuse"]
    made = ["connect/fleet:inflate", "connect/fleet:refuse_message", "connect/fleet:_check_inside"]
    assert find_uses("Message") == made  # the first and the last of them only ask what something is
    assert find_uses("Error") == ["connect/fleet:refuse_message"]


def test_a_second_way_out_is_found(tmp_path: Path) -> None:
    (tmp_path / "leak.py").write_text("def leak(reply, message):\n    return wire.pack_reply(reply, message)\n")
    assert find_uses("pack_reply", tmp_path) == ["leak:leak"]
