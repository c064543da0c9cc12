"""How well aggregators bear trouble: 100 rounds in which three sites of ten drop out, one sends NaN and one sends its
updates with the sign turned round.

    python -m prostafed.simulations.experiments.soak --out runs/soak

Generated images, eight emulated sites, task `anatomy` (gland and zones), which is steadier than a diagnosis: what is
compared is the Dice of the whole gland on the test patients of the six honest sites. "clean" is federated averaging
without any trouble; every other arm meets the same trouble, drawn from the seed. Krum needs five replies: its rounds
with fewer are tried again. A stopped study goes on where it stood. Writes soak.csv below --out.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from prostafed.common.shell.configuration import parse
from prostafed.common.shell.files import make_folder
from prostafed.common.study import Study
from prostafed.server.records.read import read_metrics, read_rounds
from prostafed.simulations.experiments.label_curve import publish
from prostafed.simulations.federation.faults import Fault
from prostafed.simulations.federation.federation_file import PhantomSite
from prostafed.simulations.federation.hospitals import Hospital, prepare_hospital, write_site_folder
from prostafed.simulations.run.engine.local import run_local

HONEST = ("one", "two", "three", "four", "five", "six")
NAN_SITE, FLIPPING_SITE = "seven", "eight"
CENTERS: tuple[Literal["RUMC", "ZGT", "PCNN"], ...] = ("RUMC", "ZGT", "PCNN")
DROPOUT = 0.3
ARMS: dict[str, tuple[str, dict[str, object]]] = {  # name -> aggregator, its parameters
    "clean": ("fedavg", {}),
    "fedavg": ("fedavg", {}),
    "fedmedian": ("fedmedian", {}),
    "trimmed_mean": ("trimmed_mean", {"trimmed_fraction": 0.3}),
    "krum": ("krum", {"byzantine": 1}),
    "multi_krum": ("multi_krum", {"byzantine": 1}),
    "geometric_median": ("geometric_median", {}),
}
ROUND = {  # Krum: 2 x byzantine + 3 replies; a round with fewer is tried again
    aggregate: {"quorum": 5, "below_quorum": "retry", "retries": 50} for aggregate in ("krum", "multi_krum")
}


def main() -> None:
    """Run every arm, print a table, or one JSON object with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs, and of soak.csv")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--cases", type=int, default=16, help="per site (default 16)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--json", action="store_true", help="print one JSON object, progress to stderr")
    arguments = parser.parse_args()
    out, rows = make_folder(arguments.out), []
    studies = {arm: describe(arm, arguments.rounds, arguments.seed) for arm in arguments.arms}
    hospitals = prepare(next(iter(studies.values())), arguments.cases, out / "cache")
    for arm, study in studies.items():
        started = time.monotonic()
        rows.append(run_arm(arm, study, hospitals, out / arm))
        print(f"{rows[-1]} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    lines = [f"Generated images, {len(HONEST)} honest sites, {arguments.rounds} rounds, seed {arguments.seed}"]
    lines += [f"{row['arm']:>18}: gland Dice {row['gland_dice']:.4f}, rejections {row['rejections']}" for row in rows]
    publish(rows, out / "soak.csv", {"generated": True}, lines, arguments.json)


def describe(arm: str, rounds: int, seed: int) -> Study:
    """Return the study of an arm: one stage of fine-tuning, evaluated at its end."""
    aggregate, parameters = ARMS[arm]
    stage = {"kind": "finetune", "task": "anatomy", "rounds": rounds, "evaluate_every": rounds}
    values = {
        "name": "soak",
        "seed": seed,
        "data": {"size": [8, 32, 32], "spacing_mm": [6.0, 2.5, 2.5], "validation_fraction": 0.0},
        "model": {"width": 8, "resolutions": 3},
        "stage": [{**stage, "aggregate": aggregate, "aggregate_parameters": parameters}],
        "round": ROUND.get(aggregate, {"quorum": 2}),
    }
    return parse(values, Study, "soak")


def prepare(study: Study, cases: int, cache: Path) -> list[Hospital]:
    """Return the eight sites, their cases generated."""
    sites = [
        PhantomSite(source="phantom", name=name, cases=cases, center=CENTERS[number % len(CENTERS)])
        for number, name in enumerate([*HONEST, NAN_SITE, FLIPPING_SITE])
    ]
    return [prepare_hospital(site, study, cache, lambda *_: None) for site in sites]


def trouble() -> Mapping[str, Sequence[Fault]]:
    """Return what goes wrong at each site."""
    dropout = Fault(kind="dropout", probability=DROPOUT)
    wrong = {NAN_SITE: Fault(kind="nan"), FLIPPING_SITE: Fault(kind="sign_flip")}
    return {name: [dropout, wrong[name]] if name in wrong else [dropout] for name in (*HONEST, *wrong)}


def run_arm(arm: str, study: Study, hospitals: Sequence[Hospital], folder: Path) -> dict[str, Any]:
    """Run an arm, or take it as it lies there finished, and return its row."""
    files = [write_site_folder(folder / "sites" / hospital.name, hospital) for hospital in hospitals]
    run_local(study, arm, folder / "run", files, faults=None if arm == "clean" else trouble())
    found = [
        row.value
        for row in read_metrics(folder / "run")
        if (row.split, row.metric) == ("test", "gland_dice") and row.site in HONEST
    ]
    rounds = read_rounds(folder / "run")
    return {
        "arm": arm,
        "gland_dice": round(sum(found) / len(found), 4),
        "worst_site": round(min(found), 4),
        "rejections": sum(len(line.rejections) for line in rounds),
        "not_aggregated": sum(not line.aggregated for line in rounds),
    }


if __name__ == "__main__":
    main()
