"""How far an encoder moved."""

import numpy as np

from prostafed.client.training.rules.rule import measure_drift


def kernel(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 1, 1, 1, 1)


def test_the_mean_over_convolutions_of_their_distance() -> None:
    begun = {"encoder.a.weight": kernel(0, 0), "encoder.b.weight": kernel(1), "encoder.a.bias": np.zeros(1)}
    ended = {"encoder.a.weight": kernel(3, 4), "encoder.b.weight": kernel(2), "encoder.a.bias": np.full(1, 99.0)}
    assert measure_drift(begun, ended) == (5 + 1) / 2


def test_kernels_of_two_axes_count_and_other_groups_do_not() -> None:
    begun = {"encoder.weight": np.zeros((1, 1, 1, 1)), "head.weight": kernel(0)}
    assert measure_drift(begun, {"encoder.weight": np.full((1, 1, 1, 1), 2.0), "head.weight": kernel(50)}) == 2


def test_nothing_shared_does_not_drift() -> None:
    assert measure_drift({}, {}) == 0
