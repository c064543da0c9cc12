"""What a site without high-b images costs, and what telling the encoder so buys: test AUROC of csPCa.

    python -m prostafed.simulations.experiments.missing_sequences --seeds 3 --out runs/missing_sequences

Generated images from three emulated sites, one of which (ZGT) has no hbv. Four trainings from the same first weights
on the same cases: "told" hides hbv now and then at every site and tells the encoder what is missing (a study's
allow_missing), "hidden" hides it and says nothing, "zeros" does neither, "left-out" trains without that site, as a
study that insists on every sequence would. Each is tested on the same cases, complete and with their hbv taken away.
Writes missing_sequences.csv below --out.
"""

import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prostafed.common.imaging.cases import CasesInMemory
from prostafed.common.seeding import derive_seed
from prostafed.simulations.experiments.label_curve import (
    SEQUENCES,
    SITES,
    begin_parser,
    make_cases,
    publish,
    say_range,
    score,
    train,
)

HBV = SEQUENCES.index("hbv")
WITHOUT = 1  # which of SITES has no hbv
ARMS = ("told", "hidden", "zeros", "left-out")


def main() -> None:
    """Train, print a table, or one JSON object with --json."""
    parser = begin_parser(__doc__, "missing_sequences.csv", steps=600)
    parser.add_argument("--cases", type=int, default=150, help="training cases (default 150)")
    arguments = parser.parse_args()
    started = time.monotonic()
    test = make_cases(derive_seed(0, "test"), arguments.test_cases)
    tests = {"complete": test, "without hbv": take_hbv(test, range(len(test.records)))}
    rows: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        pool = make_cases(derive_seed(seed, "train"), arguments.cases)
        for arm in ARMS:
            for name, auroc in train_and_test(pool, arm, tests, arguments.steps, seed).items():
                rows.append({"seed": seed, "arm": arm, "test": name, "auroc": round(auroc, 4)})
                print(f"seed {seed}, {arm}, tested {name}: AUROC {auroc:.3f}", file=sys.stderr, flush=True)
    seconds = round(time.monotonic() - started)
    told = {"test_cases": arguments.test_cases, "seconds": seconds, "generated": True}
    lines = [f"Generated images, {arguments.test_cases} test cases, {arguments.seeds} seeds, {seconds} s"]
    for arm, name in itertools.product(ARMS, tests):
        found = [row["auroc"] for row in rows if (row["arm"], row["test"]) == (arm, name)]
        lines.append(f"{arm:9s} tested {name:12s} AUROC {say_range(found)}")
    publish(rows, arguments.out and arguments.out / "missing_sequences.csv", told, lines, arguments.json)


def take_hbv(cases: CasesInMemory, indices: Sequence[int]) -> CasesInMemory:
    """Return cases of which those at `indices` lack the hbv."""
    arrays = list(cases.arrays)
    records = list(cases.records)
    for index in indices:
        image, masks = arrays[index]
        without = image.copy()
        without[HBV] = 0
        arrays[index] = without, masks
        has = {name: source for name, source in records[index].sequences.items() if name != "hbv"}
        records[index] = replace(records[index], sequences=has)
    return CasesInMemory(tuple(records), tuple(arrays))


def train_and_test(
    pool: CasesInMemory, arm: str, tests: dict[str, CasesInMemory], steps: int, seed: int
) -> dict[str, float]:
    """Return the AUROC on each test set of a network trained as `arm` says."""
    lacking = range(WITHOUT, len(pool.records), len(SITES))
    chosen = [index for index in range(len(pool.records)) if arm != "left-out" or index not in lacking]
    hideable = [HBV] if arm in ("told", "hidden") else []
    network = train(take_hbv(pool, lacking), chosen, steps, seed, tolerant=arm == "told", hideable=hideable)
    return {name: score(network, test) for name, test in tests.items()}


if __name__ == "__main__":
    main()
