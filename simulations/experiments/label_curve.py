"""How much a supervised network gains from labelled cases: test AUROC of csPCa, trained from scratch on 10 to 200.

    python -m prostafed.simulations.experiments.label_curve --seeds 3 --out runs/label_curve

Generated images from three emulated sites. Each seed draws its own training cases and first weights; a smaller training
set is the beginning of a larger one; every size takes the same number of optimiser steps; the test cases are the same
for all and come from the same sites. Writes label_curve.csv (one line per seed and size) below --out.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from prostafed.client.training.evaluate import assess
from prostafed.client.training.feed import Feed
from prostafed.client.training.loop import decayed, optimise
from prostafed.client.training.objective import finetuning
from prostafed.client.training.optimisers import Optimisation
from prostafed.common.imaging.cases import CasesInMemory, Grid
from prostafed.common.metrics.ranking import auroc_rows
from prostafed.common.models.network import GroupBuilder, build_network
from prostafed.common.seeding import derive_seed
from prostafed.common.shell.command import print_result
from prostafed.common.shell.files import make_folder
from prostafed.common.shell.tables import write_table
from prostafed.common.tasks import build_task
from prostafed.common.tensors import write_tensors
from prostafed.simulations.phantom.case import generate_case
from prostafed.simulations.phantom.settings import Readers, Scanner

GRID = Grid((3.6, 1.5, 1.5), (12, 48, 48))
SEQUENCES = ("t2w", "adc", "hbv")
SITES = (  # centre whose rates are followed, scanner
    ("RUMC", Scanner(vendor="siemens")),
    ("ZGT", Scanner(vendor="philips", field_strength_t=1.5)),
    ("PCNN", Scanner(vendor="ge")),
)
ROUNDS = 10  # the learning rate falls from round to round, as in a federation
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-4
WIDTH, STAGES = 8, 4


def main() -> None:
    """Train, print a table, or one JSON object with --json."""
    parser = begin_parser(__doc__, "label_curve.csv", steps=600)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 25, 50, 100, 200], help="labelled cases")
    arguments = parser.parse_args()
    started = time.monotonic()
    test = make_cases(derive_seed(0, "test"), arguments.test_cases)
    rows = []
    for seed in range(arguments.seeds):
        pool = make_cases(derive_seed(seed, "train"), max(arguments.sizes))
        for size in arguments.sizes:
            auroc = score(train(pool, range(size), arguments.steps, seed), test)
            rows.append({"seed": seed, "labelled_cases": size, "auroc": round(auroc, 4)})
            print(f"seed {seed}: {size} labelled cases, AUROC {auroc:.3f}", file=sys.stderr, flush=True)
    seconds = round(time.monotonic() - started)
    told = {"test_cases": arguments.test_cases, "seconds": seconds, "generated": True}
    lines = [f"Generated images, {arguments.test_cases} test cases, {arguments.seeds} seeds, {seconds} s"]
    for size in arguments.sizes:
        found = [row["auroc"] for row in rows if row["labelled_cases"] == size]
        lines.append(f"{size:4d} labelled cases: AUROC {say_range(found)}")
    publish(rows, arguments.out and arguments.out / "label_curve.csv", told, lines, arguments.json)


def begin_parser(description: str, out: str, steps: int, out_required: bool = False) -> argparse.ArgumentParser:
    """Return a parser of the options that studies on generated cases share; `out` is what lies below --out."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (default 3)")
    parser.add_argument("--test-cases", type=int, default=300, help="held-out cases (default 300)")
    parser.add_argument("--steps", type=int, default=steps, help=f"optimiser steps of a training (default {steps})")
    parser.add_argument("--out", type=Path, required=out_required, help=f"folder for {out}")
    parser.add_argument("--json", action="store_true", help="print one JSON object, progress to stderr")
    return parser


def publish(
    rows: Sequence[Mapping[str, Any]], path: Path | None, told: Mapping[str, Any], lines: Sequence[str], as_json: bool
) -> None:
    """Write the rows to `path` as CSV, where there is one; print them and what is `told` as JSON, or else `lines`."""
    if path:
        write_table(make_folder(path.parent) / path.name, tuple(rows[0]), rows)
    print_result({**told, "rows": rows}, "\n".join(lines), as_json)


def say_range(values: Sequence[float]) -> str:
    """Return "0.712 (0.690-0.735)": the mean, the least and the greatest."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def make_cases(seed: int, count: int, grid: Grid = GRID) -> CasesInMemory:
    """Return `count` generated cases, each another patient, the sites in turn."""
    cases = []
    for index in range(count):
        center, scanner = SITES[index % len(SITES)]
        cases.append(generate_case(seed, index, center, scanner, Readers(), grid, SEQUENCES))
    return CasesInMemory(tuple(case[0] for case in cases), tuple((case[1], case[2]) for case in cases))


def train(
    pool: CasesInMemory,
    chosen: Sequence[int],
    steps: int,
    seed: int,
    *,
    grid: Grid = GRID,
    encoder: str = "resenc",
    initial: Mapping[str, npt.NDArray[Any]] = MappingProxyType({}),
    batch_size: int = 8,
    tolerant: bool = False,
    hideable: Sequence[int] = (),
) -> nn.ModuleDict:
    """Return a network trained to classify csPCa on the `chosen` cases of `pool`.

    `initial`: tensors of the encoder it starts from; by default it starts from scratch. `tolerant`: the encoder is told
    which sequences a case lacks; those in `hideable` are hidden now and then.
    """
    task = build_task("classify")
    network = make_network(task.heads, seed, grid, encoder, tolerant)
    write_tensors(network, initial)
    epochs = max(1, round(steps / ROUNDS / np.ceil(len(chosen) / batch_size)))
    for number in range(1, ROUNDS + 1):
        settings = Optimisation(
            epochs, batch_size, decayed(LEARNING_RATE, number, ROUNDS), WEIGHT_DECAY, derive_seed(seed, "round", number)
        )
        optimise(network, finetuning(task), Feed(pool, chosen, grid, find_device(), hideable), settings)
    return network


def make_network(
    groups: Mapping[str, GroupBuilder], seed: int, grid: Grid = GRID, encoder: str = "resenc", tolerant: bool = False
) -> nn.ModuleDict:
    """Return an encoder of this study's size, and `groups`, with the first weights of `seed`."""
    return build_network(
        sequences=len(SEQUENCES),
        spacing_mm=grid.spacing_mm,
        size=grid.size,
        width=WIDTH,
        stages=STAGES,
        norm="instance",
        groups=groups,
        seed=seed,
        stage=0,
        tolerant=tolerant,
        encoder=encoder,
    )


def score(network: nn.ModuleDict, test: CasesInMemory, grid: Grid = GRID) -> float:
    """Return the AUROC of csPCa on all cases of `test`."""
    found = assess(network, build_task("classify"), Feed(test, range(len(test.records)), grid, find_device()), 32)
    labels, scores = np.array([each.label for each in found]), np.array([each.score for each in found])
    return float(auroc_rows(labels, scores, np.ones((1, len(found))))[0])


def find_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
