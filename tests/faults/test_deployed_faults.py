"""A link and two sites in real processes over TLS, and what breaks in hospitals: processes, files, disks, memory.

After each fault the study ends, no finished round is lost, and the model is that of an undisturbed run, bit for bit.
Slow. The environment variable PROSTAFED_FAULTS names a file for the table of faults: who said what, and seconds from
the fault to the next recorded round.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from prostafed.common.models.checkpoint import read_checkpoint
from prostafed.common.study import read_study
from prostafed.common.tensors import hash_tensors
from prostafed.server.records.read import read_rounds
from prostafed.simulations.run.engine.local import run_local
from tests.integration.conftest import STUDY, TinyFederation, assert_same_result
from tests.integration.services import Federation, Service

pytestmark = pytest.mark.slow
ROUNDS = [(1, 2), (1, 3), (2, 2)]  # of which stage, in flight at a kill
ROUND_S = 120.0  # that a round may take, with all that its fault needs


def write_study(folder: Path) -> Path:
    """Write the tiny study with rounds of some seconds."""
    path = folder / "study.toml"
    path.write_text(STUDY.replace("rounds = 1\n", "rounds = 3\nepochs = 24\n"))
    return path


@dataclass
class Faults:
    """A federation at work, and how an undisturbed run of its study ends."""

    federation: Federation
    study: Path
    expected: Path
    table: list[tuple[str, str, float]] = field(default_factory=list)
    _read: dict[Path, int] = field(default_factory=dict)

    def reach(self, run: str, stage: int, number: int) -> None:
        """Wait until both sites are half a second into a round."""
        federation = self.federation
        for name in federation.files:
            federation.wait_for(lambda name=name: federation.is_in_flight(name, stage, number), ROUND_S)  # type: ignore[misc]
        time.sleep(0.5)
        self._read = {path: len(path.read_text(errors="replace")) for path in federation.logs()}

    def recover(self, run: str, fault: str, before: list[str], began: float) -> None:
        """Wait for the next recorded round, and note how long that took and what people could read meanwhile."""
        self.federation.wait_for(lambda: len(self.federation.rounds(run)) > len(before), ROUND_S)
        seconds = time.monotonic() - began
        assert self.federation.rounds(run)[: len(before)] == before, "a finished round was lost"
        self.note(fault, seconds)

    def read_new(self) -> str:
        """What was said since the fault, in every log: what is wrong, not the way there."""
        said = []
        for path in self.federation.logs():
            new = path.read_text(errors="replace")[self._read.get(path, 0) :].splitlines()
            told = [line for line in new if line[:1].strip() and " INFO " not in line and "Traceback" not in line]
            said += [f"{path.relative_to(self.federation.folder)}: {line}" for line in told]
        return "\n".join(said)

    def note(self, fault: str, seconds: float) -> None:
        self.table.append((fault, self.read_new(), seconds))

    def check_end(self, run: str) -> None:
        """The command that follows the run ends well, and the run is the undisturbed one."""
        assert self.federation.wait_for_end(run) == 0, self.federation.services[run].said()
        out = self.federation.out(run)
        assert_same_result(out, self.expected)
        (model, _), (expected, _) = (read_checkpoint(each / "model.safetensors") for each in (out, self.expected))
        assert hash_tensors(model) == hash_tensors(expected)

    def write_table(self) -> None:
        lines = [f"### {fault}: {seconds:.1f} s\n{said}\n" for fault, said, seconds in self.table]
        print(*lines, sep="\n")
        if path := os.environ.get("PROSTAFED_FAULTS"):
            with Path(path).open("a") as file:
                file.write("\n".join(lines))


@pytest.fixture(scope="module")
def faults(tiny_federation: TinyFederation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    folder, threads = tmp_path_factory.mktemp("faults"), torch.get_num_threads()
    study = write_study(folder)
    quiet = tiny_federation.write_sites(folder / "quiet" / "sites")
    run_local(read_study(study), "quiet", folder / "quiet" / "run", quiet)
    torch.set_num_threads(threads)
    with federating(tiny_federation, folder, study) as federation:
        made = Faults(federation, study, folder / "quiet" / "run")
        yield made
        made.write_table()


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Let `folder` be a disk of its own, of 48 MB; raises OSError where that needs rights that this process lacks."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise OSError(done.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Leave no room on the disk of `folder`."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 12))
    try:
        yield
    finally:
        path.unlink()


@contextmanager
def federating(tiny: TinyFederation, folder: Path, study: Path) -> Iterator[Federation]:
    """Yield a link and two sites that have connected; a site keeps a round in the making once a second."""
    with ExitStack() as disks:
        with suppress(OSError):
            for each in ("sites/north", "coordinator"):
                disks.enter_context(small_disk(folder / each))
        files = tiny.write_sites(folder / "sites")
        for file in files:
            settings = "checkpoint_minutes = 0.016\n[worker]\nfree_disk_gb = 0.002\n"
            file.write_text(file.read_text() + settings)
        federation = Federation(folder, files)
        try:
            federation.open(study)
            federation.connect()
            yield federation
        finally:
            federation.close()


KILLED = {
    "link": [("link", "")],
    "run process": [("run process", "")],
    "site": [("site", "north")],
    "worker": [("worker", "north")],
    "link and site": [("link", ""), ("site", "south")],
}


@pytest.mark.parametrize("kind", KILLED)
def test_killed_in_three_rounds_in_flight(faults: Faults, kind: str) -> None:
    federation, run = faults.federation, f"killed-{kind}".replace(" ", "-")
    federation.begin(faults.study, run)
    for stage, number in ROUNDS:
        faults.reach(run, stage, number)
        before, began = federation.rounds(run), time.monotonic()
        for victim in [federation.find(*each) for each in KILLED[kind]]:
            os.kill(victim, signal.SIGKILL)
        faults.recover(run, f"kill -9 of the {kind}, round {stage}.{number}", before, began)
    faults.check_end(run)


def test_everything_is_killed_and_leaves_damaged_files(faults: Faults) -> None:
    """As after a power cut: every process ends at once, and of files that are not written whole half is left."""
    federation, run = faults.federation, "power-cut"
    federation.begin(faults.study, run)
    faults.reach(run, 1, 2)
    before, began = federation.rounds(run), time.monotonic()
    services = [federation.services[name] for name in ("link", *federation.files)]
    for service in services:
        service.is_wanted = False
        os.kill(service.pid, signal.SIGKILL)
    homes = [federation.home, *(file.parent for file in federation.files.values())]
    for home in homes:
        for name in (
            "link.lock",
            ".link.lock",
            ".worker.lock",
            "status.json",
            "link.json",
            "link.db",
            "link.db-journal",
        ):
            (home / name).write_text(str(os.getpid()))  # of a process that is another's by now
    (federation.out(run) / ".rounds.jsonl.abc.part").write_text("{")
    for service in services:
        service.is_wanted = True
    faults.recover(run, "power cut: everything is killed, stale locks, status.json, link.json, link.db", before, began)
    faults.check_end(run)


@pytest.fixture
def disks(faults: Faults) -> None:
    if not os.path.ismount(faults.federation.home):
        pytest.skip("a disk of its own needs the right to mount one")


@pytest.mark.usefixtures("disks")
@pytest.mark.parametrize("who", ["north", "coordinator"])
def test_a_full_disk(faults: Faults, who: str) -> None:
    """The run stops with a sentence; once there is room it is resumed, and ends. Nothing has to be started again."""
    federation, run = faults.federation, f"full-{who}"
    disk = federation.home if who == "coordinator" else federation.files[who].parent
    federation.begin(faults.study, run)
    faults.reach(run, 1, 2)
    before, began = federation.rounds(run), time.monotonic()
    ended = {name: list(federation.services[name].codes) for name in ("link", *federation.files)}
    with filled(disk):
        assert federation.wait_for_end(run) == 1, federation.services[run].said()
        faults.note(f"full disk: {who}, until the run stops", time.monotonic() - began)
    assert federation.rounds(run)[: len(before)] == before
    began = time.monotonic()
    federation.begin(faults.study, run, resume=True)
    faults.recover(run, f"full disk: {who}, from resume", before, began)
    faults.check_end(run)
    assert {name: federation.services[name].codes for name in ended} == ended, "nothing had to be started again"


@pytest.mark.usefixtures("disks")
def test_two_processes_in_a_container_with_64_mb_of_shared_memory(faults: Faults) -> None:
    """It trains as one does, but for rounding; so it is another study: of one, a site tells its test results once."""
    federation, run = faults.federation, "two-processes"
    study = faults.study.with_name("two.toml")
    study.write_text(STUDY.replace("seed = 3", "seed = 4"))
    for name in federation.files:
        federation.approve(name, study)
    service, file = federation.services["south"], federation.files["south"]
    text = file.read_text()
    service.end()
    file.write_text("processes = 2\n" + text)
    small = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    changed = Service(["unshare", "-m", "sh", "-c", small, "sh", *service.command], service.log)
    federation.services["south"] = changed
    changed.start()
    began = time.monotonic()
    federation.begin(study, run)
    assert federation.wait_for_end(run) == 0, federation.services[run].said()
    faults.note("64 MB of /dev/shm, processes = 2: a whole study", time.monotonic() - began)
    assert [list(line.replies) for line in read_rounds(federation.out(run))] == [["north", "south"]] * 2
    changed.end()
    file.write_text(text)
