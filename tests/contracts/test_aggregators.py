"""What every entry of AGGREGATORS promises of its server half."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.errors import RoundError
from prostafed.common.models.checkpoint import read_checkpoint, save_checkpoint
from prostafed.common.study import Privacy, Round
from prostafed.common.study.sums import check_sums
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation import Aggregator, Outcome, Update, build_aggregator
from prostafed.server.aggregation import __path__ as folder
from tests.server.aggregation.one_round import build, run_round

OPTIMISERS = ("fedadagrad", "fedadam", "fedyogi")  # a step has the scale they give it, not the update's
ROBUST = ("fedmedian", "trimmed_mean", "krum", "multi_krum", "geometric_median")
SITES = 5
SHAPES = {"encoder.bias": (1,), "encoder.conv": (2, 3, 4), "encoder.norm": (7,)}


def make_global(seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    tensors: Tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    return {**tensors, "encoder.count": np.array([3], np.int64)}


def make_update(name: str, site: int, tensors: Tensors, cases: int = 4, steps: int = 3, seed: int = 0) -> Update:
    """Return a reply of `tensors`, with a control variate's change where the aggregator asks for one."""
    rng, sends = np.random.default_rng(1000 + seed), AGGREGATORS[name].sends
    floating = [key for key in tensors if sends and tensors[key].dtype == np.float32]
    beside = {f"{sends}{key}": rng.normal(size=tensors[key].shape).astype(np.float32) for key in floating}
    tensors = {**tensors, **beside}
    return Update(f"site-{site}", cases, steps, tensors)


def make_replies(name: str, start: Tensors, seed: int = 0, sites: int = SITES) -> list[Update]:
    """Return differing replies near `start`, their updates of differing sizes, one site without a tensor."""
    rng = np.random.default_rng(seed)
    updates = []
    for site in range(sites):
        moved = {
            key: (array + rng.normal(size=array.shape) * 10.0 ** rng.integers(-6, 1)).astype(array.dtype)
            for key, array in sorted(start.items())
        }
        if site == 1:
            del moved["encoder.norm"]
        cases, steps = int(rng.integers(1, 300)), int(rng.integers(1, 40))
        updates.append(make_update(name, site, moved, cases, steps, seed=seed * 100 + site))
    return updates


def count_fewest(name: str) -> int:
    entry = AGGREGATORS[name]
    return entry.fewest_sites(entry.parameters())


def same(one: Tensors, other: Tensors) -> bool:
    return set(one) == set(other) and all(
        (one[name].dtype, one[name].shape, one[name].tobytes())
        == (other[name].dtype, other[name].shape, other[name].tobytes())
        for name in one
    )


def run_rounds(aggregator: Aggregator, name: str, start: Tensors, rounds: int, tmp: Path | None = None) -> Outcome:
    """Run rounds of the same replies' seeds; with `tmp`, through a checkpoint on disk after each of them."""
    outcome = Outcome(start, {}, {})
    for number in range(rounds):
        replies = make_replies(name, outcome.tensors, seed=number)
        outcome = run_round(aggregator, outcome.tensors, replies, outcome.memory, SITES)
        if tmp is not None:
            aggregator = build(name)
            save_checkpoint(tmp / "model.safetensors", outcome.tensors, {})
            save_checkpoint(tmp / "memory.safetensors", outcome.memory, {})
            tensors, memory = (read_checkpoint(tmp / f"{part}.safetensors")[0] for part in ("model", "memory"))
            outcome = Outcome(tensors, memory, outcome.diagnostics)
    return outcome


def test_the_table_names_the_modules_there_are() -> None:
    paths = [path for path in Path(folder[0]).glob("*.py") if "\ndef build(" in path.read_text()]
    modules = {f"{build_aggregator.__module__}.{path.stem}" for path in paths}
    assert {entry.module for entry in AGGREGATORS.values()} == modules


def find_refusal(name: str) -> str:
    """Return why a study cannot mask the updates of an aggregator, "" where it can."""
    try:
        check_sums(Privacy(secure_aggregation=True), Round(compress="fixed32"), [name])
    except ValueError as error:
        return str(error)
    return ""


class AggregatorContract:
    """What an entry promises, whoever added it."""

    def test_order_of_arrival_does_not_change_one_bit(self, name: str) -> None:
        start, memory = make_global(), run_rounds(build(name), name, make_global(), rounds=1).memory
        for seed in range(3):
            replies = make_replies(name, start, seed)
            outcomes = [run_round(build(name), start, order, memory) for order in list(permutations(replies))[::17]]
            assert all(same(each.tensors, outcomes[0].tensors) for each in outcomes)
            assert all(same(each.memory, outcomes[0].memory) for each in outcomes)
            assert all(each.diagnostics == outcomes[0].diagnostics for each in outcomes)

    def test_equal_updates_return_themselves(self, name: str) -> None:
        start, trained = make_global(0), make_global(1)
        trained["encoder.norm"] *= np.float32(1e-5)
        replies = [make_update(name, site, trained, cases=3 + 7 * site) for site in range(SITES)]
        equal = run_round(build(name), start, replies).tensors
        if name in OPTIMISERS:  # they count as one
            assert same(equal, run_round(build(name), start, replies[:1]).tensors)
            assert not same(equal, trained)
        else:
            assert same(equal, trained)

    def test_equal_updates_do_so_after_the_warm_up_too(self, name: str) -> None:
        start, trained = make_global(0), make_global(1)
        memory = run_round(build(name), start, make_replies(name, start)).memory if name == "l_dawa" else {}
        trained = {key: (start[key] + trained[key] * 1e-3).astype(start[key].dtype) for key in start}
        replies = [make_update(name, site, trained, cases=3 + 7 * site) for site in range(SITES)]
        if name not in OPTIMISERS:
            assert same(run_round(build(name), start, replies, memory).tensors, trained)

    def test_one_site_is_its_own_update(self, name: str) -> None:
        start, trained = make_global(0), make_global(1)
        alone = [make_update(name, 0, trained, cases=11)]
        if (fewest := count_fewest(name)) > 1:
            with pytest.raises(RoundError, match=rf"needs {fewest} replies .* found 1"):
                run_round(build(name), start, alone)
        elif name in OPTIMISERS:  # towards it
            moved = run_round(build(name), start, alone).tensors["encoder.conv"] - start["encoder.conv"]
            wanted = trained["encoder.conv"] - start["encoder.conv"]
            np.testing.assert_array_equal(np.sign(moved), np.sign(wanted))
        else:
            assert same(run_round(build(name), start, alone).tensors, trained)

    def test_the_mean_of_updates_serves_as_well_where_the_table_says_so(self, name: str) -> None:
        start = make_global()
        replies = [each for each in make_replies(name, start) if each.site != "site-1"]  # which lacks a tensor
        mean = {
            key: sum(each.cases * each.tensors[key].astype(np.float64) for each in replies)
            / sum(each.cases for each in replies)
            for key in SHAPES
        }
        summed = Update("sum", 1, 1, {key: array.astype(np.float32) for key, array in mean.items()})
        if AGGREGATORS[name].single:
            assert "masks hide it" in find_refusal(name)
            return
        assert not find_refusal(name)
        one, each = run_round(build(name), start, [summed]), run_round(build(name), start, replies)
        for key in SHAPES:
            np.testing.assert_allclose(one.tensors[key], each.tensors[key], rtol=1e-5, atol=1e-6)

    def test_weights_sum_to_one(self, name: str) -> None:
        start, shift = make_global(), np.float32(0.5)
        replies = make_replies(name, start, seed=4)
        moved = [
            Update(
                each.site,
                each.cases,
                each.steps,
                {key: array + shift if key in SHAPES else array for key, array in each.tensors.items()},
            )
            for each in replies
        ]
        moved_start = {key: array + shift if array.dtype == np.float32 else array for key, array in start.items()}
        plain, shifted = run_round(build(name), start, replies), run_round(build(name), moved_start, moved)
        for key in SHAPES:
            np.testing.assert_allclose(shifted.tensors[key], plain.tensors[key] + shift, atol=1e-5)

    def test_integer_buffers_and_tensors_nobody_sent_stay(self, name: str) -> None:
        start = make_global()
        replies = make_replies(name, start)
        without = [
            Update(
                each.site,
                each.cases,
                each.steps,
                {
                    key: array + 5 if key == "encoder.count" else array
                    for key, array in each.tensors.items()
                    if not key.endswith("encoder.conv")
                },
            )
            for each in replies
        ]
        tensors = run_round(build(name), start, without).tensors
        assert tensors["encoder.count"].tolist() == [3]
        np.testing.assert_array_equal(tensors["encoder.conv"], start["encoder.conv"])
        assert not np.array_equal(tensors["encoder.bias"], start["encoder.bias"])
        assert {key: (array.dtype, array.shape) for key, array in tensors.items()} == {
            key: (array.dtype, array.shape) for key, array in start.items()
        }

    def test_how_a_tensor_lies_in_memory_changes_nothing(self, name: str) -> None:
        start = make_global()
        replies, turned = make_replies(name, start), {key: np.asfortranarray(array) for key, array in start.items()}
        assert not turned["encoder.conv"].flags.c_contiguous
        assert same(run_round(build(name), turned, replies).tensors, run_round(build(name), start, replies).tensors)

    def test_a_tensor_is_combined_over_the_sites_that_sent_it(self, name: str) -> None:
        start = make_global()
        replies = make_replies(name, start)
        others = [each for each in replies if each.site != "site-1"]
        if count_fewest(name) > 1 or name == "geometric_median":  # one choice for all tensors: the whole replies count
            return
        some, all_of_them = run_round(build(name), start, others), run_round(build(name), start, replies)
        np.testing.assert_array_equal(all_of_them.tensors["encoder.norm"], some.tensors["encoder.norm"])

    def test_saved_and_continued_is_uninterrupted(self, name: str, tmp_path: Path) -> None:
        straight = run_rounds(build(name), name, make_global(), rounds=3)
        interrupted = run_rounds(build(name), name, make_global(), rounds=3, tmp=tmp_path)
        assert same(straight.tensors, interrupted.tensors)
        assert same(straight.memory, interrupted.memory)
        assert straight.diagnostics == interrupted.diagnostics

    @pytest.mark.parametrize("scale", [0.0, 1e-38, 1e-9, 1.0, 1e4])
    @pytest.mark.parametrize("started", [0.0, 1.0])
    def test_finite_in_finite_out(self, name: str, scale: float, started: float) -> None:
        tensors = {key: (array * started).astype(array.dtype) for key, array in make_global().items()}
        memory: Tensors = {}
        for seed in range(3):
            replies = [
                make_update(
                    name, site, {key: (array * scale).astype(array.dtype) for key, array in make_global(site).items()}
                )
                for site in range(SITES)
            ]
            with np.errstate(all="raise", under="ignore"):
                outcome = run_round(build(name), tensors, replies[seed:] + replies[:seed], memory)
            tensors, memory = outcome.tensors, outcome.memory
            assert all(np.isfinite(array).all() for array in (*tensors.values(), *memory.values()))
            assert all(np.isfinite(value) for value in outcome.diagnostics.values())

    def test_an_outlier_is_ignored_by_the_robust_ones_alone(self, name: str) -> None:
        start = make_global()
        replies = [
            make_update(
                name,
                site,
                {
                    key: (array + (1e3 if site == 2 else 1e-2 * site)).astype(array.dtype)
                    for key, array in start.items()
                },
            )
            for site in range(SITES)
        ]
        moved = run_round(build(name), start, replies).tensors["encoder.conv"] - start["encoder.conv"]
        if name in ROBUST:
            assert (np.abs(moved) < 0.06).all()
        elif name not in OPTIMISERS:
            assert (np.abs(moved) > 100).all()

    def test_what_it_keeps_and_sends_is_tensors(self, name: str) -> None:
        aggregator, start = build(name), make_global()
        memory = run_rounds(aggregator, name, start, rounds=1).memory
        sends = AGGREGATORS[name].sends
        expected = {f"{sends}{key}" for key in SHAPES} if sends else set()
        assert set(aggregator.send(start, {})) == set(aggregator.send(start, memory)) == expected
        assert bool(memory) == (name in (*OPTIMISERS, "fedavgm", "scaffold", "l_dawa"))

    def test_nothing_that_came_in_is_changed(self, name: str) -> None:
        start = make_global()
        replies = make_replies(name, start)
        memory = run_round(build(name), start, replies).memory
        inputs = [*start.values(), *memory.values(), *(array for each in replies for array in each.tensors.values())]
        before = [array.tobytes() for array in inputs]
        run_round(build(name), start, replies, memory)
        assert [array.tobytes() for array in inputs] == before


@pytest.mark.parametrize("name", AGGREGATORS)
class TestEveryAggregator(AggregatorContract):
    """The table's own."""
