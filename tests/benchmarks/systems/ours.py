"""A deployment of ours: a link and its sites on loopback, as people start them, and a study that trains nothing."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.benchmarks.systems.steps import NOTE, wait_until
from tests.integration.deployment import Deployment, find_command

ROLES = {
    "server.link.run_process": "run",
    "client.connect.worker": "worker",
    "prostafed-server start": "link",
    "prostafed-site start": "site_link",
}
# Only in the workers of this benchmark: all of a round is done but the training itself.
_STAND_IN = """
if "prostafed.client.connect.worker" in sys.orig_argv:
    from prostafed.client.rounds import local_round
    from prostafed.client.training.loop import TrainingRecord
    def train_nothing(job, phase, continuation):
        note_step()
        return TrainingRecord(loss=1.0, cases=len(job.chosen), steps=1, seconds=0.0)
    local_round.run_phase = train_nothing
"""


class Ours:
    """A link and `sites` that run; `steps` is the file of steps."""

    def __init__(self, folder: Path, sites: Sequence[Path], study_file: Path) -> None:
        """Start all, in an empty folder."""
        folder.mkdir(parents=True)
        self.steps, self._study_file, self._count = folder / "steps", study_file, len(sites)
        (folder / "patched").mkdir()
        text = "import sys" + NOTE.format(file=str(self.steps)) + _STAND_IN
        (folder / "patched" / "sitecustomize.py").write_text(text)
        self._deployment = Deployment(folder)
        ask, home = self._deployment.ask, self._deployment.home
        ask("prostafed-server", "init", "--home", home)
        for site_file in sites:
            ask("prostafed-server", "enrol", site_file.parent.name, self._add(site_file), "--home", home)
            self._deployment.approve(site_file, study_file)
        began = time.monotonic()
        self._start("link", "prostafed-server", "--home", home, "--port", self._deployment.port)
        wait_until(lambda: "Ready" in self._deployment.said("link"), 60, "the link")
        self.ready_s = time.monotonic() - began
        for site_file in sites:
            self._start(site_file.parent.name, "prostafed-site", site_file)
        for site_file in sites:
            log = site_file.parent / "logs" / "worker.log"
            wait_until(lambda log=log: log.exists() and "Ready" in log.read_text(), 120, f"the worker of {log}")

    def _add(self, site_file: Path) -> Path:
        return self._deployment.add_server(site_file)

    def _start(self, name: str, command: str, *arguments: object) -> None:
        path = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(self.steps.parent / "patched"), path]))
        try:
            self._deployment.start(name, command, *arguments)
        finally:
            os.environ["PYTHONPATH"] = path

    @property
    def roots(self) -> Mapping[str, int]:
        """The process that each tree began with."""
        names = ["link", *(f"site-{number}" for number in range(1, self._count + 1))]
        return {name: process.pid for name, process in zip(names, self._deployment.started, strict=True)}

    def run(self, name: str) -> None:
        """Run the study to its end."""
        command = [find_command("prostafed-server"), "run", str(self._study_file), "--name", name]
        options = ["--home", str(self._deployment.home), "--sites", str(self._count), "--json"]
        subprocess.run([*command, *options], check=True, capture_output=True, timeout=1800)

    def end(self) -> None:
        """End all."""
        self._deployment.end()
