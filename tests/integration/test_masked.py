"""Masked rounds where all is real: the ClientApp over the engine "local", and four hospitals over TLS, one of which is
killed while it trains.
"""

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from prostafed.common.models.checkpoint import read_checkpoint
from prostafed.common.study import Study, read_study
from prostafed.common.tensors import hash_tensors
from prostafed.server.records.read import read_rounds
from prostafed.simulations.federation.federation_file import PhantomSite
from prostafed.simulations.federation.hospitals import Hospital, prepare_hospital
from prostafed.simulations.run.engine.local import run_local
from tests.integration.services import descendants

from .conftest import STUDY, TinyFederation
from .deployment import COORDINATOR, Deployment, find_command, wait_for

NOISE = 'unit = "patient"\nepsilon = 8.0\nclip = 0.1\n'
MASKED, PLAIN = "[privacy]\nsecure_aggregation = true\n", 'compress = "fixed32"\n'


def write_study(path: Path, more: str, rounds: int = 1, epochs: int = 1, deadline_s: float = 300.0) -> Study:
    text = STUDY.replace("conditional", "restore") if NOISE in more else STUDY
    text = text.replace("batch_size", 'optimiser = "sgd"\nbatch_size')  # which does not magnify what rounding leaves
    text = text.replace("rounds = 1\n", f"rounds = {rounds}\nepochs = {epochs}\n")
    path.write_text(text.replace("quorum = 2\ndeadline_s = 300.0\n", f"quorum = 3\ndeadline_s = {deadline_s}\n{more}"))
    return read_study(path)


def add_hospitals(tiny: TinyFederation, folder: Path, *names: str) -> TinyFederation:
    def prepare(name: str) -> Hospital:
        return prepare_hospital(PhantomSite(source="phantom", name=name, cases=8), tiny.study, folder, lambda *_: None)

    return TinyFederation(tiny.study_file, tiny.study, (*tiny.hospitals, *map(prepare, names)))


def read_model(run: Path) -> str:
    return hash_tensors(read_checkpoint(run / "model.safetensors")[0])


def test_a_masked_simulation_is_the_plain_one_to_the_last_bit(tiny_federation: TinyFederation, tmp_path: Path) -> None:
    hospitals, threads = add_hospitals(tiny_federation, tmp_path, "west"), torch.get_num_threads()
    for name, more in (("masked", MASKED), ("plain", PLAIN)):
        study = write_study(tmp_path / f"{name}.toml", more, rounds=2)
        run_local(study, "run", tmp_path / name, hospitals.write_sites(tmp_path / "sites" / name))
    torch.set_num_threads(threads)
    assert read_model(tmp_path / "masked") == read_model(tmp_path / "plain")
    for masked, plain in zip(read_rounds(tmp_path / "masked"), read_rounds(tmp_path / "plain"), strict=True):
        assert masked.replies == plain.replies == ("north", "south", "west")
        assert not masked.dropped
        assert not masked.late, "who did not have to help is not told of"
        assert (masked.metrics, masked.cases) == (plain.metrics, plain.cases)
    secrets = list((tmp_path / "sites" / "masked" / "north" / "memory" / "run").glob("stage-*/masks/round-*.json"))
    assert [path.parent.parent.name for path in secrets] == ["stage-2"], "those of rounds before are gone"
    assert secrets[0].stat().st_mode & 0o77 == 0


def join_and_start(deployment: Deployment, sites: dict[str, Path]) -> dict[str, subprocess.Popen[bytes]]:
    home = deployment.home
    deployment.ask("prostafed-server", "init", "--home", home, "--host", deployment.host)
    link = deployment.start(COORDINATOR, "prostafed-server", "--home", home, "--port", deployment.port)
    wait_for(lambda: "Ready" in deployment.said(COORDINATOR), link, 60)
    started = {}
    for name, site_file in sites.items():
        join, address = deployment.folder / f"{name}.join", f"{deployment.host}:{deployment.port}"
        deployment.ask("prostafed-server", "invite", name, "--host", address, "--out", join, "--home", home)
        deployment.ask("prostafed-site", "join", join, "--folder", site_file.parent)
        started[name] = deployment.start(name, "prostafed-site", site_file)
    return started


def names_all(site_file: Path, names: set[str]) -> bool:
    """Whether the study waits at a site with the keys of all these hospitals."""
    waiting = [json.loads(path.read_text()) for path in (site_file.parent / "requests").glob("*.json")]
    return any(set(each["peers"]) == names for each in waiting)


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["", NOISE], ids=["masks", "masks and noise"])
def test_four_hospitals_mask_and_one_is_killed_while_it_trains(
    noise: str, tiny_federation: TinyFederation, deployment: Deployment, tmp_path: Path
) -> None:
    """Its round ends over the other three, who take its masks off; so do the rounds after. The model is theirs. With
    noise each has a ledger that keeps to the study's epsilon, and tells no loss.
    """
    hospitals = add_hospitals(tiny_federation, tmp_path, "west", "east")
    study_file = tmp_path / "masked.toml"
    write_study(study_file, MASKED + noise, rounds=2, epochs=10, deadline_s=20.0)
    files = hospitals.write_sites(tmp_path / "sites")
    sites = {path.parent.name: path for path in files}
    started = join_and_start(deployment, sites)
    options = ["--home", str(deployment.home), "--name", "tiny", "--sites", "4"]
    run = subprocess.Popen([find_command("prostafed-server"), "run", str(study_file), *options])
    deployment.started.append(run)
    for site_file in sites.values():
        wait_for(lambda site_file=site_file: names_all(site_file, set(sites)), run, 60)  # type: ignore[misc]
        told = deployment.ask("prostafed-site", "approve", "tiny", "--site", site_file, "--yes")
        assert told["statement"].count("SHA256:") == 4

    def trains() -> bool:
        return bool(list(sites["east"].parent.glob("memory/tiny/stage-1/masks/round-00001-*.json"))) and (
            '"mixed": "{' in next(sites["east"].parent.glob("memory/tiny/stage-1/masks/round-00001-*.json")).read_text()
        )

    wait_for(trains, run, 120)
    for pid in (*descendants(started["east"].pid, ""), started["east"].pid):
        os.kill(pid, signal.SIGKILL)
    assert run.wait(timeout=240) == 3, "the end says who did not take part to it"
    first, *others = read_rounds(deployment.home / "runs" / "tiny")
    assert first.replies == ("north", "south", "west")
    assert {(each["site"], each["exchange"]) for each in first.dropped} == {("east", "train")}
    assert all(each.aggregated and each.replies == first.replies for each in others)
    if noise:
        for name in first.replies:
            ledger = deployment.ask("prostafed-site", "ledger", "--site", sites[name])
            trained = [each for each in ledger["cohorts"] if each["rounds"]]
            assert {each["rounds"] for each in trained} == {4}
            assert all(0 < each["epsilon"] <= 8 for each in trained)
            assert all("loss" not in each.metrics[name] for each in (first, *others))
        return

    plain, threads = write_study(tmp_path / "plain.toml", PLAIN, rounds=2, epochs=10), torch.get_num_threads()
    three = TinyFederation(study_file, plain, hospitals.hospitals[:3])
    run_local(plain, "tiny", tmp_path / "plain", three.write_sites(tmp_path / "again"))
    torch.set_num_threads(threads)
    found, expected = (
        read_checkpoint(folder / "model.safetensors")[0]
        for folder in (deployment.home / "runs" / "tiny", tmp_path / "plain")
    )
    assert found.keys() == expected.keys()
    for name, array in found.items():  # shares of four sites are rounded otherwise than of three
        np.testing.assert_allclose(array, expected[name], atol=1e-5, rtol=0, err_msg=name)
