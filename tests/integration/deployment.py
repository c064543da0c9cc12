"""A coordinator's home, a link and sites on loopback, started as people start them."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from prostafed.common.shell.processes import LOOPBACK, find_free_port


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
            [find_command(command), *map(str, arguments), "--json"],
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
                [find_command(command), "start", *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
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
