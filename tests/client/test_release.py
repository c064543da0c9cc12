"""The gate: exactly what the study shares leaves, nothing else."""

import numpy as np
import pytest

from prostafed.client.release import ReleaseError, release
from prostafed.common.messages import Reply

NETWORK = {"encoder.weight": np.zeros(3), "projection.weight": np.zeros(2), "head.weight": np.zeros(1)}


def reply(names: list[str], metrics: dict[str, float] | None = None) -> Reply:
    return Reply("north", tensors={name: NETWORK.get(name, np.zeros(1)) for name in names}, metrics=metrics or {})


def test_the_shared_groups_leave() -> None:
    passed = release(
        reply(["encoder.weight", "projection.weight"], {"train/loss": 0.1}), NETWORK, ("encoder", "projection")
    )
    assert set(passed.tensors) == {"encoder.weight", "projection.weight"}


@pytest.mark.parametrize(
    "names", [["encoder.weight", "head.weight"], ["encoder.weight", "secret"], ["projection.weight"]]
)
def test_a_head_an_unknown_tensor_or_half_a_group_does_not(names: list[str]) -> None:
    with pytest.raises(ReleaseError, match="Nothing was sent"):
        release(reply(names), NETWORK, ("encoder",))


@pytest.mark.parametrize(
    "metrics", [{"train/age_of_patient": 61.0}, {"case-17/loss": 0.1}, {"loss": 0.1}, {"train/loss": float("nan")}]
)
def test_a_metric_that_is_not_listed_or_not_finite_does_not(metrics: dict[str, float]) -> None:
    with pytest.raises(ReleaseError, match="may leave"):
        release(reply([], metrics), NETWORK, ())
