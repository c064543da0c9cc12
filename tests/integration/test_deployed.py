"""The three commands as people type them: a link and two sites on loopback, over TLS and with enrolled keys.

They end with the model of the local engine; a site whose key is not enrolled is refused.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from prostafed.common.processes import LOOPBACK, find_free_port

from .conftest import TinyFederation, assert_same_result


@dataclass
class Deployment:
    """A folder with the coordinator's home, and the processes started so far."""

    folder: Path
    port: int = field(default_factory=find_free_port)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "coordinator"

    def ask(self, command: str, *arguments: object, deadline_s: float = 60.0) -> dict[str, str]:
        """Run a command that ends by itself and return its JSON."""
        finished = subprocess.run(
            [_find(command), *map(str, arguments), "--json"],
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )
        (self.folder / f"{command}-{arguments[0]}.log").write_text(finished.stderr)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return dict(json.loads(finished.stdout))

    def start(self, name: str, command: str, *arguments: object) -> subprocess.Popen[bytes]:
        """Start a command that runs until it is ended; what it says goes to NAME.log."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [_find(command), "start", *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.started.append(process)
        return process

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def add_server(self, site_file: Path) -> Path:
        """Make a key for the site, name the server in its site file, and return the public key."""
        public_key = Path(self.ask("prostafed-site", "key", site_file.parent / "site.key")["public_key"])
        authority = json.dumps(str(self.home / "pki" / "ca.crt"))
        server = f'[server]\naddress = "{LOOPBACK}:{self.port}"\nroot_certificates = {authority}\nkey = "site.key"\n'
        site_file.write_text(site_file.read_text() + server)
        return public_key

    def end(self) -> list[int]:
        """Ask everything to end as an operator does, sites first; return the exit codes in the order of starting."""
        for process in reversed(self.started):
            process.terminate()
        try:
            return [process.wait(timeout=30) for process in self.started]
        finally:
            for process in self.started:
                process.kill()


def _find(command: str) -> str:
    return str(Path(sys.executable).parent / command)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], deadline_s: float) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert process.poll() is None, f"ended with code {process.returncode}"
        assert time.monotonic() < deadline, f"waited {deadline_s} s in vain"
        time.sleep(0.3)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path)
    try:
        yield deployment
    finally:
        try:
            deployment.end()
        finally:
            for log in sorted(tmp_path.rglob("*.log")):  # pytest shows them where the test failed
                print(f"== {log.relative_to(tmp_path)}", *log.read_text(errors="replace").splitlines()[-30:], sep="\n")


def test_deployed_run_gives_the_model_of_the_local_engine(
    tiny_federation: TinyFederation, local_run: Path, deployment: Deployment
) -> None:
    home, folder = deployment.home, deployment.folder
    north, south = tiny_federation.write_sites(folder / "sites")
    stranger = folder / "sites" / "stranger" / "site.toml"
    stranger.parent.mkdir()
    stranger.write_text(south.read_text())

    deployment.ask("prostafed-server", "init", "--home", home)
    keys = [deployment.add_server(site_file) for site_file in (north, south, stranger)]
    deployment.ask("prostafed-server", "enrol", "north", keys[0], "--home", home)  # before the link runs
    link = deployment.start("link", "prostafed-server", "--home", home, "--port", deployment.port)
    wait_for(lambda: "Ready" in deployment.said("link"), link, 180)
    deployment.ask("prostafed-server", "enrol", "south", keys[1], "--home", home)  # and while it does

    for site_file in (north, south):
        deployment.start(site_file.parent.name, "prostafed-site", site_file)
    refused = deployment.start("stranger", "prostafed-site", stranger)
    options = ("--home", home, "--sites", 2, "--name", "tiny")
    run = Path(deployment.ask("prostafed-server", "run", tiny_federation.study_file, *options, deadline_s=600)["run"])
    assert run == home / "runs" / "tiny"
    assert_same_result(run, local_run)
    assert "<strong>Generated images</strong>" in (run / "report.html").read_text()

    assert refused.wait(timeout=30) == 2
    assert "refused the key" in deployment.said("stranger")
    assert "Connected" not in deployment.said("stranger")
    assert all("Connected" in deployment.said(name) for name in ("north", "south"))
    assert deployment.end()[:3] == [0, 0, 0]
