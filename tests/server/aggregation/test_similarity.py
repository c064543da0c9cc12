"""How alike updates are: by hand where everything is sampled, within its error where it is not."""

import numpy as np
import pytest

from prostafed.server.aggregation.similarity import COORDINATES, compare_updates, sample_update

SENT = {"encoder.a": np.zeros(2, np.float32), "encoder.b": np.ones((1, 1), np.float32)}


def update(*values: float) -> dict[str, np.ndarray]:
    a, b, c = values
    return {"encoder.a": np.array([a, b], np.float32), "encoder.b": np.array([[1 + c]], np.float32)}


def sample(*values: float) -> np.ndarray:
    return sample_update(update(*values), SENT, seed=1)


def test_cosines_and_influence_by_hand() -> None:
    samples = {"east": sample(3, 0, 0), "north": sample(0, 4, 0), "south": sample(-3, 0, 0)}
    likeness = compare_updates(samples, {"east": 1, "north": 2, "south": 1})
    assert likeness.cosines["east"] == {"north": 0.0, "south": -1.0}
    # mean (0, 2, 0), length 2; without north (0, 0, 0): 2 / 2; without east (-3 + 0, 8, 0) / 3 = (-1, 8/3, 0)
    assert likeness.influence["north"] == pytest.approx(1.0)
    assert likeness.influence["east"] == pytest.approx(np.hypot(1, 8 / 3 - 2) / 2, abs=1e-4)


def test_one_site_is_compared_with_nobody_and_no_update_has_no_direction() -> None:
    assert compare_updates({"east": sample(1, 2, 3)}, {"east": 5}).cosines == {}
    frozen = compare_updates({"east": sample(0, 0, 0), "west": sample(0, 0, 0)}, {"east": 5, "west": 5})
    assert frozen.cosines == {"east": {}, "west": {}}
    assert frozen.influence == {"east": 0.0, "west": 0.0}


def test_a_sample_of_large_updates_gives_their_cosine_nearly() -> None:
    generator = np.random.default_rng(0)
    sent = {"encoder.w": np.zeros(1_000_000, np.float32), "encoder.b": np.zeros(10, np.float32)}
    first = {name: generator.normal(size=array.shape).astype(np.float32) for name, array in sent.items()}
    second = {
        name: (0.6 * array + 0.8 * generator.normal(size=array.shape)).astype(np.float32)
        for name, array in first.items()
    }
    samples = {name: sample_update(each, sent, seed=3) for name, each in (("first", first), ("second", second))}
    assert len(samples["first"]) == pytest.approx(COORDINATES, rel=0.01)
    found = compare_updates(samples, {"first": 1, "second": 1}).cosines["first"]["second"]
    assert found == pytest.approx(0.6, abs=0.02)  # standard error 0.005
    np.testing.assert_array_equal(samples["first"], sample_update(first, sent, seed=3))
