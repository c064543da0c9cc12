"""kill -9 among a link's ServerApp, sites and their workers, over TLS: the run ends with the model of a quiet one.

Slow: Flower notices a lost ServerApp after some 45 s and a lost SuperNode after a minute. The environment variable
PROSTAFED_KILLS says how often something is killed.
"""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from prostafed.common.models.checkpoint import read_checkpoint
from prostafed.common.study import read_study
from prostafed.common.tensors import hash_tensors
from prostafed.simulations.run.engine.local import run_local
from tests.server.records.ledger_lines import read_ledger

from .conftest import STUDY, TinyFederation
from .deployment import Deployment, find_command, wait_for

KILLS = int(os.environ.get("PROSTAFED_KILLS", "4"))


def write_long_study(path: Path) -> Path:
    """Write the tiny study with five longer rounds of each stage, tried again where a site is lost."""
    longer = STUDY.replace("rounds = 1\n", "rounds = 5\nepochs = 4\n")
    path.write_text(longer + 'below_quorum = "retry"\nretries = 50\n')
    return path


def descendants(pid: int, program: str) -> list[int]:
    """Process ids below `pid` whose command line names `program`."""
    parents: dict[int, int] = {}
    named: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(") ")[2].split()[1])
            if program in (entry / "cmdline").read_text():
                named.add(int(entry.name))
        except OSError:
            continue
    found = []
    for each in named:
        above = each
        while above in parents and above != pid:
            above = parents[above]
        found += [each] if above == pid and each != pid else []
    return found


class Operators:
    """The people of the test: they start a run, and start again what has died."""

    def __init__(self, deployment: Deployment, study_file: Path, sites: tuple[Path, ...]) -> None:
        self.deployment, self.files = deployment, {file.parent.name: file for file in sites}
        home = deployment.home
        deployment.ask("prostafed-server", "init", "--home", home)
        for name, file in self.files.items():
            deployment.ask("prostafed-server", "enrol", name, deployment.add_server(file), "--home", home)
            deployment.approve(file, study_file)
        self.link = deployment.start("link", "prostafed-server", "--home", home, "--port", deployment.port)
        wait_for(lambda: "Ready" in deployment.said("link"), self.link, 180)
        self.sites = {name: self.start_site(name) for name in self.files}
        self.run = self.command("run", study_file, "--sites", len(sites), "--name", "killed")

    def start_site(self, name: str) -> "subprocess.Popen[bytes]":
        return self.deployment.start(name, "prostafed-site", self.files[name])

    def command(self, *arguments: object) -> "subprocess.Popen[bytes]":
        with (self.deployment.folder / "run.log").open("ab") as log:
            command = [find_command("prostafed-server"), *map(str, arguments), "--home", str(self.deployment.home)]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.deployment.started.append(process)
        return process

    def mend(self) -> bool:
        """Start again what has ended; return whether the run is finished."""
        for name, site in self.sites.items():
            if site.poll() is not None:
                self.sites[name] = self.start_site(name)
        if self.run.poll() not in (None, 0):
            time.sleep(5)
            self.run = self.command("resume", "killed")
        return self.run.poll() == 0

    def kill(self, lots: random.Random) -> str:
        """Kill something at work; return what it was, "" where there was nothing of the kind."""
        kind = lots.choice(["worker", "site"])
        name = lots.choice(sorted(self.sites))
        site = self.sites[name].pid
        victims = {"serverapp": descendants(self.link.pid, "flwr-serverapp"), "site": [site]}
        victims["worker"] = descendants(site, "prostafed.client.connect.worker")
        if not victims[kind] or self.sites[name].poll() is not None:
            return ""
        os.kill(victims[kind][0], signal.SIGKILL)
        return f"{kind} {name}" if kind != "serverapp" else kind


@pytest.mark.slow
def test_killed_in_a_deployment(tiny_federation: TinyFederation, deployment: Deployment, tmp_path: Path) -> None:
    study_file, lots = write_long_study(tmp_path / "study.toml"), random.Random(3)
    quiet = tmp_path / "quiet"
    run_local(read_study(study_file), "killed", quiet / "run", tiny_federation.write_sites(quiet / "sites"))
    operators = Operators(deployment, study_file, tiny_federation.write_sites(tmp_path / "sites"))
    run, killed, done = deployment.home / "runs" / "killed", [], []
    deadline = time.monotonic() + 180 * (KILLS + 2)
    while not operators.mend():
        assert time.monotonic() < deadline, f"not finished; killed {killed}"
        time.sleep(lots.uniform(2.0, 25.0))
        lines = read_ledger(run) if (run / "ledger.jsonl").exists() else []
        if lines and len(killed) < KILLS and (victim := operators.kill(lots)):
            killed.append(victim)
        now = [(line.stage, line.round, line.model) for line in lines if line.event == "round"]
        assert now[: len(done)] == done, "a finished round was lost"
        done = now
    print("killed:", killed)
    assert killed, "the run was over before anything was killed"
    model, _ = read_checkpoint(run / "model.safetensors")
    expected, _ = read_checkpoint(quiet / "run" / "model.safetensors")
    assert hash_tensors(model) == hash_tensors(expected)
