"""A coordinator and its hospitals as service managers keep them: what ends is started again after a second."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prostafed.common.shell.processes import LOOPBACK, find_free_port

from .deployment import find_command

RESTART_S = 1.0
LOOK_S = 0.05
RUN_PROCESS, WORKER = "prostafed.server.link.run_process", "prostafed.client.connect.worker"


@dataclass
class Service:
    """A program that is started again whenever it ends; what it says is added to `log`."""

    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    ended: float = 0.0  # when it was seen to have ended
    codes: list[int] = field(default_factory=list)  # that it ended with
    is_wanted: bool = True

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **self.environment}
            )
        self.ended = 0.0

    def tend(self) -> None:
        if self.process is None or self.process.poll() is None:
            return
        if not self.ended:
            self.ended = time.monotonic()
            self.codes.append(self.process.returncode)
        elif self.is_wanted and time.monotonic() > self.ended + RESTART_S:
            self.start()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it for good; return its code."""
        self.is_wanted = False
        if self.process is None:
            return 0
        self.process.send_signal(number)
        try:
            return self.process.wait(timeout=90)
        finally:
            self.process.kill()

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@dataclass(frozen=True)
class Place:
    """Where a link or a site runs: what stands before its commands (ip netns exec ..., unshare ...), what its processes
    find in their environment, which host it reaches the coordinator by, and options of `join`.
    """

    before: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    host: str = LOOPBACK
    join: Sequence[str] = ()


class Federation:
    """A coordinator's home and sites under `folder`; `places` are those of "link" and of the sites."""

    def __init__(self, folder: Path, sites: Sequence[Path], places: Mapping[str, Place] | None = None) -> None:
        self.folder, self.home, self.port = folder, folder / "coordinator", find_free_port()
        self.files = {file.parent.name: file for file in sites}
        self.places = dict(places or {})
        start = [find_command("prostafed-server"), "start", "--home", str(self.home), "--port", str(self.port)]
        self.services = {"link": self._make("link", start)}
        for name, file in self.files.items():
            self.services[name] = self._make(name, [find_command("prostafed-site"), "start", str(file)])

    def _make(self, name: str, command: Sequence[str]) -> Service:
        """Return a service at its place."""
        place = self.place(name)
        return Service([*place.before, *command], self.folder / f"{name}.log", place.environment)

    def place(self, name: str) -> Place:
        return self.places.get(name, Place())

    @property
    def link(self) -> Service:
        return self.services["link"]

    def ask(self, where: str, command: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """Run a command that ends by itself at a place."""
        place = self.place(where)
        return subprocess.run(
            [*place.before, find_command(command), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, **place.environment},
        )

    def must(self, where: str, command: str, *arguments: object) -> str:
        """Run a command that has to succeed; return what it says."""
        done = self.ask(where, command, *arguments)
        assert done.returncode == 0, f"{command} {arguments[0]}: {done.stdout}{done.stderr}"
        return done.stdout

    def open(self, *studies: Path) -> None:
        """Make the coordinator's home, start its link, and let every site join and approve the studies."""
        hosts = {self.place(name).host for name in ("link", *self.files)}
        options = [option for host in sorted(hosts) for option in ("--host", host)]
        self.must("link", "prostafed-server", "init", "--home", self.home, *options)
        self.link.start()
        self.wait_for(lambda: "Ready" in self.link.said(), 120)
        for name in self.files:
            self.must(name, "prostafed-site", "join", self.invite(name), *self.join_options(name))
            for study in studies:
                self.approve(name, study)

    def approve(self, name: str, study: Path) -> None:
        """Approve the study at a site, for all that is done with it here."""
        options = ("--site", self.files[name], "--rounds", 10_000, "--yes")
        self.must(name, "prostafed-site", "approve", study, *options)

    def invite(self, name: str) -> Path:
        """Return a new join file for a site."""
        path, host = self.folder / f"{name}.join", self.place(name).host
        address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.must("link", "prostafed-server", "invite", name, "--host", address, "--out", path, "--home", self.home)
        return path

    def join_options(self, name: str) -> Sequence[object]:
        return ("--folder", self.files[name].parent, *self.place(name).join)

    def connect(self) -> None:
        """Start the sites, and wait until all have connected."""
        for name in self.files:
            self.services[name].start()
        for name in self.files:
            self.wait_for(lambda name=name: self.status(name).get("state") in ("connected", "working"), 120)  # type: ignore[misc]

    def begin(self, study: Path, run: str, resume: bool = False) -> Service:
        """Start a run and follow it as a person does, whose command is not started again."""
        what = ["resume", run] if resume else ["run", str(study), "--sites", str(len(self.files)), "--name", run]
        command = [find_command("prostafed-server"), *what, "--home", str(self.home)]
        self.services[run] = service = self._make("link", command)
        service.log, service.is_wanted = self.folder / f"{run}.log", False
        service.start()
        return service

    def out(self, run: str) -> Path:
        return self.home / "runs" / run

    def rounds(self, run: str) -> list[str]:
        """The lines of rounds.jsonl of rounds that are done; one that was tried in vain is replaced when it is."""
        path = self.out(run) / "rounds.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if json.loads(line)["aggregated"]]

    def status(self, name: str) -> dict[str, Any]:
        """What the site's status.json says."""
        path = self.files[name].parent / "status.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def is_in_flight(self, name: str, stage: int, number: int) -> bool:
        """Whether a site works on a round at this moment."""
        told = self.status(name)
        place = (told.get("state"), told.get("stage"), told.get("round"))
        return place == ("working", stage, number) and told["worker"]["state"] == "working"

    def tend(self) -> None:
        for service in self.services.values():
            service.tend()

    def wait_for(self, condition: Callable[[], bool], deadline_s: float) -> float:
        """Return the seconds until `condition` held; services are tended meanwhile."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() < began + deadline_s, f"waited {deadline_s} s in vain\n{self.last_words()}"
            self.tend()
            time.sleep(LOOK_S)
        return time.monotonic() - began

    def wait_for_end(self, run: str, deadline_s: float = 300.0) -> int:
        """Return the code that the command that follows the run ended with."""
        service = self.services[run]
        self.wait_for(lambda: service.process is not None and service.process.poll() is not None, deadline_s)
        assert service.process is not None
        return service.process.returncode

    def find(self, kind: str, name: str = "") -> int:
        """Return the process id of a link, a site, a run's process or a site's worker."""
        if kind in ("link", "site"):
            return self.services[name or kind].pid
        above, program = (self.link.pid, RUN_PROCESS) if kind == "run process" else (self.services[name].pid, WORKER)
        return descendants(above, program)[0]

    def logs(self) -> list[Path]:
        """Files in which people can read what happened."""
        return sorted(path for path in self.folder.rglob("*.log") if path.is_file())

    def last_words(self) -> str:
        words = [(path, path.read_text(errors="replace").splitlines()[-12:]) for path in self.logs()]
        return "\n".join(f"== {path.relative_to(self.folder)}\n" + "\n".join(lines) for path, lines in words)

    def close(self) -> dict[str, int]:
        """End all, sites first; return the codes."""
        return {name: service.end() for name, service in reversed(self.services.items())}


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
    for each in sorted(named - {pid}):
        above = each
        while above in parents and above != pid:
            above = parents[above]
        found += [each] if above == pid else []
    return found
