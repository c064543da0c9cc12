"""A coordinator's home, a link and sites, started as people start them: on loopback, or each in a namespace."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prostafed.common.shell.processes import LOOPBACK, find_free_port

from .namespaces import Network

COORDINATOR = "coordinator"


@dataclass
class Deployment:
    """A folder with the coordinator's home, and the processes started so far."""

    folder: Path
    port: int = field(default_factory=find_free_port)
    network: Network | None = None
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "coordinator"

    @property
    def host(self) -> str:
        """Where the sites reach the coordinator."""
        return self.network.address(COORDINATOR) if self.network else LOOPBACK

    def inside(self, where: str) -> list[str]:
        """Return what stands before a command that runs at the coordinator, a site, or somebody else."""
        return self.network.inside(where) if self.network else []

    def call(
        self, where: str, command: str, *arguments: object, deadline_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that ends by itself."""
        return subprocess.run(
            [*self.inside(where), find_command(command), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )

    def ask(self, command: str, *arguments: object, where: str = "", deadline_s: float = 60.0) -> dict[str, Any]:
        """Run a command that ends by itself and return its JSON."""
        place = where or (COORDINATOR if command == "prostafed-server" else "north")
        finished = self.call(place, command, *arguments, "--json", deadline_s=deadline_s)
        (self.folder / f"{command}-{arguments[0]}.log").write_text(finished.stderr)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return dict(json.loads(finished.stdout))

    def start(self, name: str, command: str, *arguments: object) -> subprocess.Popen[bytes]:
        """Start a command that runs until it is ended; what it says goes to NAME.log."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*self.inside(name), find_command(command), "start", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
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
        site_file.write_text(site_file.read_text().replace("noise_seed = 0\n", "") + server)  # no simulation any more
        return public_key

    def approve(self, site_file: Path, study_file: Path) -> None:
        """Approve a study at a site whose site file names the server."""
        self.ask("prostafed-site", "approve", study_file, "--site", site_file, "--yes")

    def end(self) -> list[int]:
        """Ask everything to end as an operator does, sites first; return the exit codes in the order of starting."""
        for process in reversed(self.started):
            process.terminate()
        try:
            return [process.wait(timeout=30) for process in self.started]
        finally:
            for process in self.started:
                process.kill()


def find_command(command: str) -> str:
    return str(Path(sys.executable).parent / command)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], deadline_s: float) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert process.poll() is None, f"ended with code {process.returncode}"
        assert time.monotonic() < deadline, f"waited {deadline_s} s in vain"
        time.sleep(0.3)
