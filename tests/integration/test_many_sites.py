"""Two hundred emulated sites in one process: the round loop, the sum and the memory do not mind how many they are."""

import json
import resource
from pathlib import Path

import pytest

from prostafed.common.study import parse_study
from prostafed.server.records.read import read_rounds
from prostafed.simulations.run.engine.local import run_local

from .conftest import TinyFederation

SITES = 200


@pytest.mark.slow
def test_two_hundred_sites_take_part(tiny_federation: TinyFederation, tmp_path: Path) -> None:
    values = json.loads(tiny_federation.study.canonical())
    stage = {**values["stage"][0], "rounds": 2}
    few, study = (
        parse_study(json.dumps({**values, "stage": [stage], "round": {**values["round"], "quorum": quorum}}))
        for quorum in (8, SITES)
    )
    files = []
    for number in range(SITES):  # the cases of two hospitals under two hundred names
        hospital = tiny_federation.hospitals[number % 2]
        folder = tmp_path / "sites" / f"site-{number:03}"
        folder.mkdir(parents=True)
        cases = json.dumps(str(hospital.cases.folder))
        keys = "threads = 1\nprivacy.minimum_cohort = 1\n"
        (folder / "site.toml").write_text(f'name = "site-{number:03}"\ncases = {cases}\n{keys}')
        files.append(folder / "site.toml")
    run_local(few, "few", tmp_path / "few-run", files[:8])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run_local(study, "many", tmp_path / "run", files)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    records = read_rounds(tmp_path / "run")
    assert [len(row.replies) for row in records] == [SITES, SITES]
    assert not any(row.rejections for row in records)
    seconds = sum(row.seconds for row in records)
    print(f"{SITES} sites, 2 rounds: {seconds:.0f} s, {grown_mb:.0f} MB more than for eight sites")
    assert grown_mb < 300, f"{grown_mb:.0f} MB more than for eight sites"
