import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.summary import summarise

SITES = ("alpha", "beta", "gamma")
SKILL = {"federated": 1.6, "local": 0.7, "pooled": 1.7}
STAGES: list[dict[str, Any]] = [
    {"kind": "pretrain", "method": "conditional", "rounds": 3, "share": ["encoder", "projection"]},
    {"kind": "finetune", "task": "lesion", "rounds": 4, "share": ["encoder"]},
]


def write_run(
    folder: Path,
    sites: tuple[str, ...] = SITES,
    arms: tuple[str, ...] = ("federated", "local", "pooled"),
    stages: list[dict[str, Any]] | None = None,
    patients: int = 36,
    size: int = 48,
    examples: int = 2,
) -> Path:
    """Write a run folder like that of a simulation, with numbers that follow from the names."""
    stages = STAGES if stages is None else stages
    folder.mkdir(parents=True, exist_ok=True)
    study = {
        "name": "example",
        "seed": 7,
        "data": {"sequences": ["t2w", "adc", "hbv"], "spacing_mm": [3.0, 0.5, 0.5], "size": [20, 256, 256]},
        "stage": [{"epochs": 1, "batch_size": 8, "aggregate": "fedavg", **stage} for stage in stages],
        "arms": {"compare": [arm for arm in arms if arm != "federated"]},
    }
    _write(folder / "study.json", {"study": study, "hash": "5c1d" * 16})
    scanner = {"vendor": "siemens", "field_strength_t": 3.0, "noise": None, "slice_thickness_mm": 3.0}
    described = {"source": "phantom", "cases": 96, "scanner": scanner, "readers": {"count": 3, "kappa": 0.6}}
    _write(folder / "federation.json", {"sites": [{"name": site, **described} for site in sites]})
    rounds = [
        _round(arm, number, stage, round_number, members)
        for arm in arms
        for members in ([(site,) for site in sites] if arm == "local" else [("pooled",) if arm == "pooled" else sites])
        for number, stage in enumerate(stages, start=1)
        for round_number in range(1, stage["rounds"] + 1)
    ]
    predictions = [
        {"arm": arm, "stage": number, "site": site, "split": "test", "task": stage["task"], **vars(case)}
        for number, stage in enumerate(stages, start=1)
        if stage["kind"] == "finetune"
        for arm in arms
        for index, site in enumerate(sites)
        for case in make_predictions(site, index, SKILL[arm], patients, stage["task"] == "lesion")
    ]
    _write_lines(folder / "rounds.jsonl", rounds)
    _write_lines(folder / "predictions.jsonl", predictions)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("arm", "stage", "round", "site", "split", "metric", "value", "n"))
        writer.writerows(_metric_rows(rounds, predictions))
    _write(folder / "run.json", RECORD)
    (folder / "examples").mkdir(exist_ok=True)
    for index, site in enumerate(sites[:examples]):
        np.savez(folder / "examples" / f"{index}.npz", **make_example(site, size))
    return folder


RECORD = {
    "versions": {"prostafed": "0.1.0", "torch": "2.13.0"},
    "commit": "75460d8c0ffee",
    "data_fingerprint": "ab" * 32,
    "seconds": 754.2,
    "bytes": {"up": 31_000_000, "down": 31_000_000},
    "engine": "local",
    "command": "prostafed-sim run study.toml --out run",
    "started": "2026-05-04T09:12:00+00:00",
    "finished": "2026-05-04T09:24:34+00:00",
    "state": "finished",
}


def make_predictions(site: str, index: int, skill: float, patients: int, lesions: bool) -> Iterator[CasePrediction]:
    """Yield predictions whose noise is the same in every arm: the arms differ by skill alone."""
    generator = np.random.default_rng(index)
    for number in range(patients):
        label = bool(number % 3 == 0)
        noise, false = generator.normal(), generator.random()
        score = float(1 / (1 + np.exp(-(skill * (2 * label - 1) + noise))))
        if not lesions:
            yield CasePrediction(f"{site}-{number}", f"{site}-{number}", label, score)
            continue
        found = [(score, label)] if score > 0.2 else []
        found += [(float(score * false), False)] if false > 0.5 else []
        yield CasePrediction(f"{site}-{number}", f"{site}-{number}", label, score, tuple(found), int(label))


def make_example(site: str, size: int) -> dict[str, Any]:
    """A slice with an oval gland and a round lesion in it."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size - 0.5
    gland = (x**2 + (y * 1.3) ** 2 < 0.04).astype(np.uint8)
    lesion = ((x - 0.08) ** 2 + (y - 0.06) ** 2 < 0.002).astype(np.uint8)
    body = 1.0 * (x**2 + y**2 < 0.22) + gland * 0.8
    image = (body + 0.15 * generator.standard_normal((size, size))).astype(np.float16)
    heat = np.exp(-((x - 0.07) ** 2 + (y - 0.06) ** 2) / 0.003).astype(np.float32) * 0.8
    return {
        "t2w": image - lesion,
        "adc": image - 2 * lesion,
        "hbv": image + 2 * lesion,
        "gland": gland,
        "zones": gland,
        "lesion": lesion,
        "detection": heat,
        "site": np.array(site),
        "case_id": np.array(f"{site}-0"),
        "source": np.array("phantom"),
        "caption": np.array("clinically significant cancer"),
    }


def _round(arm: str, number: int, stage: dict[str, Any], round_number: int, members: tuple[str, ...]) -> dict[str, Any]:
    loss = {site: 2.0 / number * np.exp(-0.4 * round_number) + 0.05 * len(site) for site in members}
    return {
        "arm": arm,
        "stage": number,
        "kind": stage["kind"],
        "method_or_task": stage.get("method") or stage["task"],
        "round": round_number,
        "participants": members,
        "replies": members,
        "rejections": [],
        "aggregated": True,
        "seconds": 8.5 + round_number,
        "bytes_up": 2_500_000 * len(members),
        "bytes_down": 2_500_000 * len(members),
        "cases": dict.fromkeys(members, 62),
        "metrics": {site: {"loss": value} for site, value in loss.items()},
        "diagnostics": {},
        "study_hash": "5c1d" * 16,
    }


def _metric_rows(rounds: list[dict[str, Any]], predictions: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    for line in rounds:
        key = (line["arm"], line["stage"], line["round"])
        for site in line["participants"]:
            yield (*key, site, "train", "loss", line["metrics"][site]["loss"], 62)
            if line["kind"] == "finetune":
                value = 0.8 - 0.4 * np.exp(-SKILL[line["arm"]] * line["round"] / 3) - 0.01 * len(site)
                metric = "picai_score" if line["method_or_task"] == "lesion" else "auroc"
                yield (*key, site, "validation", metric, value, 10)
    groups: dict[tuple[str, int, str], list[CasePrediction]] = {}
    for row in predictions:
        case = CasePrediction(**{name: row[name] for name in CasePrediction.__dataclass_fields__})
        groups.setdefault((row["arm"], row["stage"], row["site"]), []).append(case)
    for (arm, stage, site), cases in groups.items():
        last = max(line["round"] for line in rounds if line["stage"] == stage)
        positives = sum(case.label for case in cases)
        for metric, value in {**summarise(cases, seed=1), "n": len(cases), "positives": positives}.items():
            yield arm, stage, last, site, "test", metric, value, len(cases)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def run_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Returns a run folder written once per session for each choice of options: to be read or copied, not changed."""
    library = tmp_path_factory.mktemp("runs")

    def find(**options: Any) -> Path:
        folder = library / hashlib.sha256(repr(sorted(options.items())).encode()).hexdigest()
        return folder if folder.exists() else write_run(folder, **options)

    return find


@pytest.fixture
def make_run(tmp_path: Path, run_library: Callable[..., Path]) -> Callable[..., Path]:
    return lambda **options: shutil.copytree(run_library(**options), tmp_path / "run")


@pytest.fixture
def run(make_run: Callable[..., Path]) -> Path:
    return make_run()
