"""Does a model remember whom it was trained on, and does noise end that? A federation that is made to overfit.

    python -m prostafed.simulations.experiments.membership --epsilon 0 3 --seeds 3 --out runs/membership

Generated images from three emulated hospitals, few training cases, many epochs, the whole model shared. Each seed draws
other patients; each epsilon trains on the same ones, 0 without noise. The attack is that of `prostafed-sim attack`.
Writes membership.csv (one line per seed, epsilon, attack and site) and the runs below --out; runs that are there are
not run again.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prostafed.common.privacy.attacks.finding import Finding
from prostafed.simulations.attacks.attack import attack_run
from prostafed.simulations.experiments.label_curve import publish
from prostafed.simulations.run import DEFAULT_CACHE

SITES = (("north", "RUMC", "siemens"), ("east", "ZGT", "philips"), ("south", "PCNN", "ge"))


def main() -> None:
    """Train, attack, print a table, or one JSON object with --json."""
    arguments = _read_arguments()
    started = time.monotonic()
    rows: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        for epsilon in arguments.epsilon:
            folder = arguments.out / f"seed-{seed}-epsilon-{epsilon:g}"
            findings, auroc = train_and_attack(folder, make_study(arguments, epsilon, seed), arguments, seed)
            rows += [_write_row(seed, epsilon, auroc, each) for each in findings]
            pooled = [each for each in findings if not each.site and each.measure == "AUC"]
            for each in pooled:
                print(f"seed {seed}, epsilon {epsilon:g}, {each.variant}: {_say(each)}", file=sys.stderr, flush=True)
    seconds = round(time.monotonic() - started)
    told = {"cases": arguments.cases, "rounds": arguments.rounds, "seconds": seconds, "generated": True}
    publish(rows, arguments.out / "membership.csv", told, _tabulate(rows, seconds), arguments.json)


def make_study(arguments: argparse.Namespace, epsilon: float, seed: int) -> dict[str, Any]:
    """Return the study as tables: few patients, many epochs, no noise where `epsilon` is 0."""
    stage = {
        "kind": "finetune",
        "task": "classify",
        "rounds": arguments.rounds,
        "epochs": arguments.epochs,
        "batch_size": 8,
        "learning_rate": arguments.learning_rate,
        "weight_decay": 0.0,
        "share": ["encoder", "heads"],
        "evaluate_every": arguments.rounds,
    }
    data = {"size": [8, 24, 24], "spacing_mm": [6.0, 3.0, 3.0], "validation_fraction": 0.1, "test_fraction": 0.45}
    study: dict[str, Any] = {"name": "membership", "seed": seed, "data": data, "stage": [stage]}
    study |= {"model": {"width": 8, "resolutions": 3}, "arms": {"compare": []}}
    if epsilon:
        study["privacy"] = {"unit": "patient", "epsilon": epsilon, "delta": arguments.delta, "clip": arguments.clip}
    return study


def train_and_attack(
    folder: Path, study: dict[str, Any], arguments: argparse.Namespace, seed: int
) -> tuple[tuple[Finding, ...], float | None]:
    """Return what membership inference finds on the study's run, and the mean test AUROC of its sites."""
    from prostafed.simulations import simulate

    sites = [
        {
            "name": name,
            "source": "phantom",
            "cases": arguments.cases,
            "seed": seed,
            "center": center,
            "scanner": {"vendor": vendor},
        }
        for name, center, vendor in SITES
    ]
    run = simulate(study, {"site": sites}, folder, cache=arguments.cache)
    means = [row["value"] for row in run.results if row["scope"] == "mean" and row["metric"] == "auroc"]
    return attack_run(folder, only=["membership"], seed=seed).findings, means[0] if means else None


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.0, 3.0], help="0: no noise (default 0 and 3)")
    parser.add_argument("--delta", type=float, default=1e-3, help="of the guarantee (default 0.001)")
    parser.add_argument("--clip", type=float, default=1.0, help="largest norm of a patient's gradient (default 1)")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (default 3)")
    parser.add_argument("--cases", type=int, default=80, help="cases of each hospital (default 80)")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of training (default 10)")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of a round (default 20)")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="of the sites (default 0.003)")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder of prepared cases")
    parser.add_argument("--out", type=Path, required=True, help="folder for membership.csv and the runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object, progress to stderr")
    return parser.parse_args()


def _write_row(seed: int, epsilon: float, auroc: float | None, found: Finding) -> dict[str, Any]:
    figures = {name: round(getattr(found, name), 4) for name in ("value", "low", "high", "chance")}
    about = {"seed": seed, "epsilon": epsilon, "attack": found.variant, "site": found.site or "all"}
    tested = None if auroc is None else round(auroc, 4)
    return {**about, "measure": found.measure, **figures, "of": found.of, "test_auroc": tested}


def _say(found: Finding) -> str:
    return f"AUC {found.value:.3f} ({found.low:.3f} to {found.high:.3f}), {found.verdict}"


def _tabulate(rows: Sequence[dict[str, Any]], seconds: int) -> list[str]:
    lines = [f"Generated images, {seconds} s. All sites, AUC of membership (95 % interval), test AUROC of csPCa"]
    for row in rows:
        if row["site"] == "all" and row["measure"] == "AUC":
            auroc = "-" if row["test_auroc"] is None else f"{row['test_auroc']:.2f}"
            interval = f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
            about = f"seed {row['seed']}, epsilon {row['epsilon']:g}, {row['attack']}"
            lines.append(f"{about}: {interval}, AUROC {auroc}; {row['of']}")
    return lines


if __name__ == "__main__":
    main()
