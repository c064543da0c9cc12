"""The site behind an update, on made-up updates."""

import numpy as np
import pytest

from prostafed.common.metrics.statistic import FloatArray
from prostafed.common.privacy.attacks.origin import COORDINATES, name_origins, project


def make_updates(own: float, rounds: int = 12, seed: int = 0) -> dict[str, list[FloatArray]]:
    """Three sites whose updates share a direction, have one of their own of length `own`, and noise."""
    generator = np.random.default_rng(seed)
    common = generator.normal(size=(rounds, 40))
    return {
        name: list(50 * common + own * generator.normal(size=40) + generator.normal(size=(rounds, 40)))
        for name in ("north", "south", "east")
    }


def test_sites_with_a_direction_of_their_own_are_named() -> None:
    found = name_origins("none", make_updates(own=3.0))
    assert (found.value, found.chance, found.of) == (1.0, pytest.approx(1 / 3), "3 sites, 12 rounds")
    assert found.verdict == "above chance"


def test_sites_without_one_are_not() -> None:
    held = sum(name_origins("none", make_updates(own=0.0, seed=seed)).low <= 1 / 3 for seed in range(40))
    assert held >= 36


def test_the_order_of_sites_does_not_matter() -> None:
    updates = make_updates(own=1.0)
    assert name_origins("", updates) == name_origins("", dict(reversed(updates.items())))


def test_projections_keep_angles() -> None:
    generator = np.random.default_rng(1)
    one, other = generator.normal(size=(2, 20_000))
    mixed = one + other
    a, b = project(one, 3), project(mixed, 3)
    assert a.shape == (COORDINATES,)
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert cosine == pytest.approx(np.sqrt(0.5), abs=0.15)
    assert np.array_equal(project(one, 3), a)


def test_one_site_or_round_is_refused() -> None:
    with pytest.raises(ValueError, match="two sites"):
        name_origins("", {"north": [np.ones(3)] * 3})
    with pytest.raises(ValueError, match="two sites"):
        name_origins("", {"north": [np.ones(3)], "south": [np.ones(3)]})
