"""Plain Flower's own processes, as its documentation starts them: SuperLink, SuperNodes, `flwr run`, FedAvg.

TLS and node authentication are on, isolation is its default. The apps send the same tensors back and forth.
"""

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from prostafed.common.shell.processes import LOOPBACK, find_free_port
from prostafed.server.link.link import create_home
from tests.benchmarks.systems.steps import NOTE, wait_until

ROLES = {
    "flwr-serverapp": "serverapp",
    "flwr-clientapp": "clientapp",
    "flower-superlink": "superlink",
    "flower-supernode": "supernode",
}
_SERVER = """
from flwr.app import ArrayRecord, Array
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from safetensors.numpy import load_file
app = ServerApp()
@app.main()
def main(grid, context):
    arrays = ArrayRecord({{name: Array(value) for name, value in load_file({tensors!r}).items()}})
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes={sites}, min_available_nodes={sites})
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds={rounds})
"""
_CLIENT = """
import torch  # as the ClientApp of every tutorial that trains with it
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
app = ClientApp()
@app.train()
def train(message, context):
    note_step()
    content = RecordDict({"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})})
    return Message(content=content, reply_to=message)
"""
_PROJECT = """
[project]
name = "plain"
version = "1.0.0"
dependencies = ["flwr"]
[tool.flwr.app]
publisher = "plain"
[tool.flwr.app.components]
serverapp = "plain.server:app"
clientapp = "plain.client:app"
[tool.flwr.app.config]
"""


class Flower:
    """A SuperLink and SuperNodes that run; `steps` is the file of steps."""

    def __init__(self, folder: Path, sites: int, tensors: Path, rounds: int) -> None:
        """Start all, in an empty folder."""
        folder.mkdir(parents=True)
        self.steps, self._folder, self._sites = folder / "steps", folder, sites
        self._started: list[subprocess.Popen[bytes]] = []
        self._port = find_free_port()
        pki = create_home(folder / "home")
        self._authority = pki.folder / "ca.crt"
        self._trust = ssl.create_default_context(cafile=self._authority)
        self._write_apps(tensors, rounds)
        began = time.monotonic()
        secured = ["--ssl-ca-certfile", self._authority, "--ssl-certfile", pki.server_certificate]
        secured += ["--ssl-keyfile", pki.server_key, "--enable-supernode-auth"]
        options = ["--host", LOOPBACK, "--port", self._port, "--database", folder / "state.db"]
        self._start("flower-superlink", *secured, *options, "--disable-runtime-dependency-installation")
        wait_until(self._answers, 60, "the SuperLink")
        self.ready_s = time.monotonic() - began
        for number in range(sites):
            key = self._write_key(number)
            self._ask("supernode", "register", key.with_suffix(".pub"), "plain")
            trust = ["--root-certificates", self._authority, "--auth-supernode-private-key", key]
            address = ["--superlink", f"{LOOPBACK}:{self._port}", "--port", find_free_port()]
            self._start("flower-supernode", *trust, *address)
        wait_until(self._all_online, 60, "the SuperNodes")

    @property
    def roots(self) -> Mapping[str, int]:
        """The process that each tree began with."""
        names = ["link", *(f"site-{number}" for number in range(1, self._sites + 1))]
        return {name: process.pid for name, process in zip(names, self._started, strict=True)}

    def run(self, name: str) -> None:
        """Run the app to its end."""
        said = self._ask("run", self._folder / "app", "plain", "--stream", deadline_s=1800)
        (self._folder / f"{name}.log").write_text(said)

    def end(self) -> None:
        """End all."""
        for process in reversed(self._started):
            process.terminate()
        for process in self._started:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()

    def _write_apps(self, tensors: Path, rounds: int) -> None:
        package = self._folder / "app" / "plain"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "server.py").write_text(_SERVER.format(tensors=str(tensors), sites=self._sites, rounds=rounds))
        (package / "client.py").write_text(NOTE.format(file=str(self.steps)) + _CLIENT)
        (package.parent / "pyproject.toml").write_text(_PROJECT)
        (self._folder / "flwr").mkdir()
        connection = f'address = "{LOOPBACK}:{self._port}"\nroot-certificates = "{self._authority}"\n'
        (self._folder / "flwr" / "config.toml").write_text(
            f'[superlink]\ndefault = "plain"\n\n[superlink.plain]\n{connection}'
        )

    def _write_key(self, number: int) -> Path:
        key, path = ec.generate_private_key(ec.SECP384R1()), self._folder / f"site{number}"
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        path.chmod(0o600)
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        path.with_suffix(".pub").write_bytes(public)
        return path

    def _environment(self) -> dict[str, str]:
        switches = ("FLWR_DISABLE_UPDATE_CHECK", "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION")
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        own = {"FLWR_HOME": str(self._folder / "flwr"), "FLWR_TELEMETRY_ENABLED": "0", "PATH": path}
        return {**os.environ, **own, **dict.fromkeys(switches, "1")}

    def _start(self, program: str, *arguments: object) -> None:
        with (self._folder / f"{program}-{len(self._started)}.log").open("wb") as log:
            command = [str(Path(sys.executable).parent / program), *map(str, arguments)]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment(), cwd=self._folder
            )
        self._started.append(process)

    def _ask(self, *arguments: object, deadline_s: float = 60.0) -> str:
        command = [str(Path(sys.executable).parent / "flwr"), *map(str, arguments)]
        finished = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
            env=self._environment(),
            cwd=self._folder,
        )
        if finished.returncode:
            raise RuntimeError(f"{' '.join(command)}: {finished.stdout}{finished.stderr}")
        return finished.stdout

    def _all_online(self) -> bool:
        return self._ask("supernode", "list", "plain", "--format", "json").count('"online"') >= self._sites

    def _answers(self) -> bool:
        if self._started[0].poll() is not None:
            raise RuntimeError((self._folder / "flower-superlink-0.log").read_text())
        try:
            address = f"https://{LOOPBACK}:{self._port}/health"
            return httpx.get(address, verify=self._trust, trust_env=False, timeout=2).status_code == 200
        except httpx.TransportError:
            return False
