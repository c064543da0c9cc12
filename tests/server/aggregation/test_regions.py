"""Two steps of averaging equal one, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prostafed.common.models.checkpoint import read_checkpoint, save_checkpoint
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation import Update
from prostafed.server.exchange.admission import RejectedError
from tests.server.aggregation.one_round import build, run_round
from tests.server.aggregation.regions import build_region, build_top

START: Tensors = {"w": np.ones((2, 3), np.float32), "bias": np.zeros(4, np.float32), "count": np.zeros(1, np.int64)}


def make_updates(seed: int, sites: int = 7) -> list[Update]:
    rng = np.random.default_rng(seed)
    updates = []
    for site in range(sites):
        tensors = {
            name: (array + rng.normal(size=array.shape) * 10.0 ** rng.integers(-8, 2)).astype(array.dtype)
            for name, array in START.items()
            if name != "bias" or site % 2
        }
        updates.append(Update(str(site), int(rng.integers(1, 400)), 1, tensors))
    return updates


def sum_region(name: str, updates: list[Update]) -> Update:
    return Update(name, sum(each.cases for each in updates), 1, run_round(build_region(), START, updates).tensors)


@given(seed=st.integers(0, 10_000), assigned=st.lists(st.integers(0, 2), min_size=7, max_size=7))
def test_the_mean_of_regions_is_the_mean_of_sites(seed: int, assigned: list[int]) -> None:
    updates = make_updates(seed)
    regions = [
        sum_region(
            f"region-{number}", [each for each, region in zip(updates, assigned, strict=True) if region == number]
        )
        for number in set(assigned)
    ]
    flat = run_round(build("fedavg"), START, updates)
    for order in (regions, regions[::-1]):
        nested = run_round(build_top(), START, order)
        assert nested.diagnostics == flat.diagnostics
        for name in START:
            np.testing.assert_array_equal(nested.tensors[name], flat.tensors[name])


def test_a_sum_survives_a_file(tmp_path: Path) -> None:
    updates = make_updates(0)
    region = sum_region("north", updates)
    save_checkpoint(tmp_path / "north.safetensors", region.tensors, {})
    read = Update("north", region.cases, 1, read_checkpoint(tmp_path / "north.safetensors")[0])
    nested, flat = run_round(build_top(), START, [read]), run_round(build("fedavg"), START, updates)
    np.testing.assert_array_equal(nested.tensors["w"], flat.tensors["w"])


def test_what_is_no_sum_is_rejected() -> None:
    top, region = build_top(), sum_region("north", make_updates(0))
    for name, array in (("coarse.w", np.zeros(5, np.int64)), ("counts.w", np.array([3, 9])), ("w", START["w"])):
        with pytest.raises(RejectedError) as caught:
            top.add(top.init(START, {}), Update("north", 1, 1, {**region.tensors, name: array}))
        assert caught.value.code == "WRONG_TENSORS"
