"""Seeds depend on every part, and on nothing else."""

from prostafed.common.seeding import derive_seed


def test_value_is_fixed_for_ever() -> None:
    assert derive_seed(7, 1, 2, "north", "training") == 5710073385619640224


def test_every_part_and_their_borders_count() -> None:
    seeds = [derive_seed(0, "ab", "c"), derive_seed(0, "a", "bc"), derive_seed(0, "abc"), derive_seed(1, "ab", "c")]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
