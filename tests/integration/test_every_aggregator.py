"""Every way to combine sites, every way updates travel, every personal part: in a real federation of three sites."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.study import parse_study
from prostafed.server.records.read import read_rounds
from prostafed.simulations.run.engine.local import run_local

from .conftest import TinyFederation

PARAMETERS = {"krum": {"byzantine": 0}, "multi_krum": {"byzantine": 0}, "trimmed_mean": {"trimmed_fraction": 0.34}}
PREDICTORS = ("fedu", "fedema")


def run(federation: TinyFederation, folder: Path, stage: dict[str, object], **keys: object) -> list[dict[str, object]]:
    values = json.loads(federation.study.canonical())
    kind = {"kind": "pretrain", "method": "byol"} if stage.get("aggregate") in PREDICTORS else {"kind": "finetune"}
    plain = {"task": "classify"} if kind["kind"] == "finetune" else {}
    sites = federation.write_sites(folder / "sites")
    third = folder / "sites" / "west" / "site.toml"
    third.parent.mkdir()
    third.write_text(sites[0].read_text().replace('"north"', '"west"', 1))
    study = parse_study(
        json.dumps(
            {
                **{name: values[name] for name in ("name", "seed", "data", "model")},
                "stage": [{**kind, **plain, "rounds": 2, "batch_size": 4, **stage}],
                "round": {"quorum": 3, "deadline_s": 300.0, **keys},
            }
        )
    )
    run_local(study, "run", folder / "run", [*sites, third])
    model = load_file(folder / "run" / "model.safetensors")
    assert all(np.isfinite(array).all() for array in model.values())
    records = read_rounds(folder / "run")
    assert [(row.aggregated, list(row.rejections), len(row.replies)) for row in records] == [(True, [], 3)] * 2
    return records


@pytest.mark.parametrize("name", AGGREGATORS)
def test_every_aggregator(tiny_federation: TinyFederation, tmp_path: Path, name: str) -> None:
    optimiser = "sgd" if AGGREGATORS[name].plain_sgd else "adamw"
    stage = {"aggregate": name, "aggregate_parameters": PARAMETERS.get(name, {}), "optimiser": optimiser}
    records = run(tiny_federation, tmp_path, stage)
    assert all(row.diagnostics["update_norm"] > 0 for row in records)


@pytest.mark.parametrize(("compress", "share"), [("float16", 0.51), ("topk", 0.16)])
def test_compressed_updates_are_smaller(
    tiny_federation: TinyFederation, tmp_path: Path, compress: str, share: float
) -> None:
    records = run(tiny_federation, tmp_path, {}, compress=compress, top_fraction=0.1)
    assert all(row.bytes_up <= share * row.bytes_down for row in records)


@pytest.mark.parametrize(
    "stage",
    [
        {"local": ["norm"]},
        {"local": ["stem", "norm"]},
        {"share": ["encoder", "heads"]},
        {"mode": "alternate", "head_epochs": 1},
        {"keep_optimiser": True},
    ],
    ids="-".join,
)
def test_personal_parts_and_shared_heads(
    tiny_federation: TinyFederation, tmp_path: Path, stage: dict[str, object]
) -> None:
    run(tiny_federation, tmp_path, stage)
    groups = {name.partition(".")[0] for name in load_file(tmp_path / "run" / "model.safetensors")}
    assert groups == ({"encoder", "head"} if "share" in stage else {"encoder"})


def test_with_nothing_shared_each_site_starts_the_next_stage_from_its_own(
    tiny_federation: TinyFederation, tmp_path: Path
) -> None:
    records = run(tiny_federation, tmp_path, {"share": []})
    assert [row.bytes_up for row in records] == [0, 0]
