"""What an encoder's first weights are worth where few cases are labelled: test AUROC of csPCa against the label budget.

    python -m prostafed.simulations.experiments.label_budget --out runs/label_budget --weights mobilenet_v2-b0353104.pth

Generated images from three emulated sites. Each seed draws its own training cases, labelled cases and first weights;
a smaller budget is part of a larger one, by patient; every training takes about the same number of optimiser steps; the
test cases are the same for all and come from the same sites. "simclr", "conditional" and "restore" were pretrained by
the three sites together, by federated averaging, on all training cases, without their csPCa labels ("conditional" uses
the PI-RADS of simulated readers). "imagenet" is a MobileNetV2 started from --weights, and left out without that file;
"random_mobilenet" is the same encoder without them. Which encoder a start has tells on every budget: compare
"imagenet" with "random_mobilenet", the others with "random".

A study that was stopped goes on where it stands: --out holds what is finished, one line per cell (cells.jsonl), and the
pretrained encoders. Writes label_budget.csv, .json (every parameter and their hash) and .png below --out.
"""

import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

from prostafed.common.bundle.record import hash_file
from prostafed.common.errors import ConfigurationError, ProstafedError
from prostafed.common.imaging.cases import CasesInMemory
from prostafed.common.imaging.label_share import choose_labelled
from prostafed.common.seeding import derive_seed
from prostafed.common.shell.files import make_folder, write_bytes, write_json
from prostafed.common.tasks import build_task
from prostafed.common.tensors import Tensors
from prostafed.simulations.experiments.budget_cells import BudgetCell, Parameters, read_cells, write_cells
from prostafed.simulations.experiments.budget_figure import plot
from prostafed.simulations.experiments.budget_starts import STARTS, find_start
from prostafed.simulations.experiments.label_curve import begin_parser, make_cases, publish, say_range, score, train


def main() -> None:
    """Train what is not finished, print a table, or one JSON object with --json."""
    parser = begin_parser(__doc__, "cells, encoders, table and picture", steps=200, out_required=True)
    parser.add_argument("--weights", type=Path, help="state dict of torchvision's MobileNetV2")
    parser.add_argument("--starts", nargs="+", choices=list(STARTS), default=list(STARTS), help="initialisations")
    parser.add_argument("--percents", type=int, nargs="+", default=[5, 10, 50, 100], help="label budgets, in percent")
    parser.add_argument("--cases", type=int, default=200, help="training cases (default 200)")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of every pretraining (default 10)")
    arguments = parser.parse_args()
    wanted = [name for name in arguments.starts if name != "imagenet" or arguments.weights]
    if wanted != arguments.starts:
        print("imagenet is left out: no --weights FILE was given", file=sys.stderr)
    try:
        parameters = Parameters(
            starts=tuple(wanted),
            seeds=arguments.seeds,
            percents=tuple(arguments.percents),
            cases=arguments.cases,
            test_cases=arguments.test_cases,
            steps=arguments.steps,
            rounds=arguments.rounds,
            weights_sha256=digest(arguments.weights) if "imagenet" in wanted else "",
        )
        cells = run(parameters, arguments.out, arguments.weights)
    except ProstafedError as error:
        sys.exit(str(error))
    report(cells, parameters, arguments.out, arguments.json)


def run(parameters: Parameters, out: Path, weights: Path | None) -> list[BudgetCell]:
    """Return the cells, in order, after training those that `out` does not hold yet."""
    kept, config, grid = make_folder(out) / "cells.jsonl", parameters.hash(), parameters.grid
    cells = read_cells(kept, config)
    done = {(cell.seed, cell.start, cell.percent) for cell in cells}
    wanted = itertools.product(range(parameters.seeds), parameters.starts, parameters.percents)
    missing = [cell for cell in wanted if cell not in done]
    test = make_cases(derive_seed(0, "test"), parameters.test_cases if missing else 0, grid)
    started = time.monotonic()
    for seed, of_seed in itertools.groupby(missing, key=lambda cell: cell[0]):
        pool = make_cases(derive_seed(seed, "train"), parameters.cases, grid)
        for start, of_start in itertools.groupby(of_seed, key=lambda cell: cell[1]):
            initial = find_start(start, seed, pool, parameters, out / "encoders", weights)
            tell(started, f"seed {seed}, {start}: first weights ready")
            for _, _, percent in of_start:
                cells.append(measure(parameters, start, seed, percent, pool, initial, test))
                write_cells(kept, cells)
                tell(started, f"seed {seed}, {start}, {percent} %: AUROC {cells[-1].auroc:.3f}")
    return sorted(cells, key=lambda cell: (parameters.starts.index(cell.start), cell.seed, cell.percent))


def measure(
    parameters: Parameters,
    start: str,
    seed: int,
    percent: int,
    pool: CasesInMemory,
    initial: Tensors,
    test: CasesInMemory,
) -> BudgetCell:
    """Return the cell of one training on `percent` of the patients of `pool`, from the encoder `initial`."""
    usable = build_task("classify").usable
    chosen = choose_labelled(pool.records, range(len(pool.records)), usable, percent / 100, seed)
    network = train(
        pool,
        chosen,
        parameters.steps,
        seed,
        grid=parameters.grid,
        encoder=STARTS[start].encoder,
        initial=initial,
        batch_size=parameters.batch_size,
    )
    auroc = round(score(network, test, parameters.grid), 4)
    positives = sum(pool.records[index].cspca is True for index in chosen)
    return BudgetCell(start, seed, percent, len(chosen), positives, auroc, parameters.hash())


def report(cells: Sequence[BudgetCell], parameters: Parameters, out: Path, as_json: bool) -> None:
    """Write table, parameters and picture; print means and ranges over the seeds, or one JSON object."""
    told = {"config": parameters.hash(), "parameters": asdict(parameters)}
    write_json(out / "label_budget.json", told)
    picture = BytesIO()
    plot(cells, parameters).savefig(picture, format="png", dpi=150)
    write_bytes(out / "label_budget.png", picture.getvalue())
    lines = [f"Generated images, {parameters.test_cases} test cases, {parameters.seeds} seeds: AUROC, mean (range)"]
    lines.append(f"Parameters {parameters.hash()}")
    for start, percent in itertools.product(parameters.starts, parameters.percents):
        found = [cell.auroc for cell in cells if (cell.start, cell.percent) == (start, percent)]
        lines.append(f"{start:16s} {percent:3d} %  {say_range(found)}")
    publish([asdict(cell) for cell in cells], out / "label_budget.csv", told, lines, as_json)


def tell(started: float, text: str) -> None:
    """Print progress to stderr, with the minutes since `started`."""
    print(f"{(time.monotonic() - started) / 60:6.1f} min  {text}", file=sys.stderr, flush=True)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; raises ConfigurationError where it cannot be read."""
    try:
        return hash_file(path)
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error.strerror}. Check the path.") from error


if __name__ == "__main__":
    main()
