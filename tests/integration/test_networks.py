"""Four hospitals, each behind a network as hospitals have it, in namespaces: real processes, TLS, all stages.

north is reached by IPv6, south by a proxy with a login, west by a proxy that opens TLS, east by a line of 1 Mbit/s that
takes 300 ms there and back and loses 2 %. South and west have no other way out. Slow.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from prostafed.common.study import read_study
from prostafed.simulations.federation.federation_file import PhantomSite
from prostafed.simulations.federation.hospitals import prepare_hospital
from prostafed.simulations.run.engine.local import run_local

from .conftest import STUDY, TinyFederation, assert_same_result
from .deployment import find_command
from .namespaces import Network, call, make_network, why_not
from .services import Federation, Place, Service

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "namespaces can be made")]
HOSPITALS = ("north", "south", "west", "east")
LOGIN, PORTS = "hospital:s3cret", {"plain": 3128, "login": 3129, "opening": 3130}
CUTS_S = [float(each) for each in os.environ.get("PROSTAFED_CUTS", "5,70").split(",")]  # 600 as well: ten minutes
CLOCK = """
import datetime, os

class datetime_(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=float(os.environ["CLOCK_S"]))

datetime.datetime = datetime_
"""  # Python reads it as sitecustomize.py before anything of ours; libfaketime breaks time.sleep


@dataclass(frozen=True)
class Hospitals:
    """Hospitals at work, each behind a network of its own."""

    federation: Federation
    network: Network
    folder: Path

    def study(self, name: str) -> Path:
        """The study "whole", with all stages, or "short", two rounds of one."""
        return self.folder / f"{name}.toml"

    def check_end(self, run: str, study: str) -> None:
        """The run ends well, as on one machine."""
        assert self.federation.wait_for_end(run, 600) == 0, self.federation.services[run].said()
        assert_same_result(self.federation.out(run), self.folder / "quiet" / study)

    def proxy(self, kind: str, login: str = "") -> dict[str, str]:
        """The environment that names a proxy."""
        at = f"{self.network.address('proxy')}:{PORTS[kind]}"
        return {"HTTPS_PROXY": f"http://{login}@{at}" if login else f"http://{at}"}


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospitals]:
    folder, threads = tmp_path_factory.mktemp("networks"), torch.get_num_threads()
    studies = write_studies(folder)
    whole, sites = read_study(studies[0]), [PhantomSite(source="phantom", name=name, cases=8) for name in HOSPITALS]
    made = tuple(prepare_hospital(site, whole, folder / "cache", lambda site, done, count: None) for site in sites)
    tiny = TinyFederation(studies[0], whole, made)
    for study in studies:
        quiet = tiny.write_sites(folder / "quiet" / f"{study.stem}-sites")
        run_local(read_study(study), "quiet", folder / "quiet" / study.stem, quiet)
    torch.set_num_threads(threads)
    with make_network("hub", "proxy", *HOSPITALS, "guest", slow="east") as network:
        hub, six = network.address("hub"), network.address("hub", 6)
        for shut in ("south", "west"):
            close_way(network, shut, hub, six)
        at_proxy = f"{network.address('proxy')}:"
        ca = folder / "proxies" / "ca.crt"
        places = {
            "link": Place(network.inside("hub"), host=hub),
            "north": Place(network.inside("north"), host=six),
            "south": Place(network.inside("south"), {"HTTPS_PROXY": f"http://{LOGIN}@{at_proxy}{PORTS['login']}"}, hub),
            "west": Place(
                network.inside("west"),
                {"HTTPS_PROXY": f"http://{at_proxy}{PORTS['opening']}"},
                hub,
                ("--proxy-ca", str(ca)),
            ),
            "east": Place(network.inside("east"), host=hub),
        }
        federation = Federation(folder, tiny.write_sites(folder / "sites"), places)
        try:
            start_proxies(federation, network, folder / "proxies", hub)
            federation.open(*studies)
            federation.connect()
            yield Hospitals(federation, network, folder)
        finally:
            federation.close()


def write_studies(folder: Path) -> tuple[Path, Path]:
    """Write a study with all stages, and one of two rounds; a round waits for who is away for ten minutes."""
    longer = STUDY.replace("rounds = 1\n", "rounds = 2\nepochs = 20\n").replace("300.0", "1800.0")
    begin, _, rest = longer.partition('[[stage]]\nkind = "finetune"')
    texts = {"whole": longer, "short": begin + rest[rest.index("[round]") :]}
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text.replace('"tiny"', f'"{name}"'))
    return folder / "whole.toml", folder / "short.toml"


def close_way(network: Network, name: str, *addresses: str) -> None:
    """Leave a namespace no way to these addresses."""
    for address in addresses:
        call("ip", "-n", f"{network.prefix}{name}", "route", "add", "unreachable", address)


def start_proxies(federation: Federation, network: Network, folder: Path, host: str) -> None:
    program = [find_command("python"), "-m", "tests.integration.proxy", str(folder), host, LOGIN]
    command = [*network.inside("proxy"), *program, *map(str, PORTS.values())]
    federation.services["proxy"] = service = Service(command, federation.folder / "proxy.log")
    service.start()
    federation.wait_for(lambda: "Ready" in service.said(), 60)


def test_a_study_ends_as_on_one_machine(hospitals: Hospitals) -> None:
    federation = hospitals.federation
    began = time.monotonic()
    federation.begin(hospitals.study("whole"), "whole")
    hospitals.check_end("whole", "whole")
    print(f"a study with all stages: {time.monotonic() - began:.1f} s")
    for name in HOSPITALS:
        assert federation.services[name].codes == []


@dataclass
class Guest:
    """A hospital that joins what is there, from a namespace of which a test can close the way to the coordinator."""

    federation: Federation
    name: str
    starts: int = 0

    def join(self, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
        """Run `join` with this environment; the join file is the same each time."""
        self.federation.places[self.name] = replace(self.federation.place(self.name), environment=environment)
        file = self.federation.folder / f"{self.name}.join"
        file = file if file.exists() else self.federation.invite(self.name)
        folder = ("--folder", self.federation.folder / "guests" / self.name)
        return self.federation.ask(self.name, "prostafed-site", "join", file, *folder)

    def start(self, environment: Mapping[str, str]) -> Service:
        """Start the site with this environment; what it says is in a log of its own."""
        file = self.federation.folder / "guests" / self.name / "site.toml"
        (file.parent / "cases").mkdir(exist_ok=True)
        self.starts += 1
        command = [*self.federation.place(self.name).before, find_command("prostafed-site"), "start", str(file)]
        service = Service(command, self.federation.folder / f"{self.name}-{self.starts}.log", environment)
        service.is_wanted = False
        self.federation.services[self.name] = service
        service.start()
        return service


@pytest.fixture
def guest(hospitals: Hospitals) -> Iterator[Guest]:
    federation, network = hospitals.federation, hospitals.network
    made = Guest(federation, f"guest-{len(federation.places)}")
    federation.places[made.name] = Place(network.inside("guest"), host=network.address("hub"))
    yield made
    if service := federation.services.pop(made.name, None):
        service.end()
    with suppress(subprocess.CalledProcessError):
        call("ip", "-n", f"{network.prefix}guest", "route", "del", "unreachable", network.address("hub"))


def test_joining_through_proxies(hospitals: Hospitals, guest: Guest) -> None:
    close_way(hospitals.network, "guest", hospitals.network.address("hub"))
    tries: dict[str, tuple[dict[str, str], str]] = {
        "no proxy": ({}, "There is no way from this machine to"),
        "no login": (hospitals.proxy("login"), "where it asks for a login, set HTTPS_PROXY="),
        "wrong login": (hospitals.proxy("login", "hospital:guess"), "407"),
        "opens TLS": (hospitals.proxy("opening"), "--proxy-ca FILE"),
    }
    for what, (environment, expected) in tries.items():
        done = guest.join(environment)
        print(f"join, {what}: {done.stderr.strip()}")
        assert done.returncode != 0, what
        assert expected in done.stderr, what
        assert "guess" not in done.stdout + done.stderr
    done = guest.join(hospitals.proxy("plain"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("kind", "login", "expected"),
    [
        ("login", "hospital:guess", "The proxy that HTTPS_PROXY names does not let this site through."),
        ("opening", "", "was signed by another authority"),
    ],
)
def test_a_site_says_what_a_proxy_does(
    hospitals: Hospitals, guest: Guest, kind: str, login: str, expected: str
) -> None:
    """And goes on trying. With the right settings it connects."""
    assert guest.join({}).returncode == 0
    close_way(hospitals.network, "guest", hospitals.network.address("hub"))
    service = guest.start(hospitals.proxy(kind, login))
    guest.federation.wait_for(lambda: expected in service.said(), 60)
    print(f"start, {kind}: {service.said()}")
    assert is_running(service)
    assert "guess" not in service.said()
    service.end()
    service = guest.start(hospitals.proxy("plain"))
    guest.federation.wait_for(lambda: "Connected" in service.said(), 60)


def is_running(service: Service) -> bool:
    return service.process is not None and service.process.poll() is None


@pytest.mark.parametrize(
    ("shift", "expected"),
    [(600, "10 minutes ahead of"), (-600, "10 minutes behind"), (60, r"[56]\d seconds ahead of"), (-60, "")],
)
def test_a_clock_that_is_off_is_named(guest: Guest, tmp_path: Path, shift: int, expected: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    clock = {"PYTHONPATH": path, "CLOCK_S": str(shift)}
    done = guest.join(clock)
    print(f"join, {shift}: {done.stdout}{done.stderr}")
    assert done.returncode == 0
    assert re.search(expected, done.stdout)
    service = guest.start(clock)
    guest.federation.wait_for(lambda: ("The clock of" if expected else "Connected") in service.said(), 60)
    print(f"start, {shift}: {service.said()}")
    if expected:
        said = rf"The clock of this machine is {expected} the coordinator's\. Set it, best by NTP\."
        assert re.search(said, service.said())
        assert is_running(service), "it goes on trying"


def cut(hospitals: Hospitals, name: str, seconds: float) -> None:
    """Take a hospital off the network for a while."""
    hospitals.network.cut(name)
    until = time.monotonic() + seconds
    hospitals.federation.wait_for(lambda: time.monotonic() > until, seconds + 5)
    hospitals.network.mend(name)


@pytest.mark.parametrize("seconds", CUTS_S)
def test_a_hospital_that_is_cut_off_in_a_round_comes_back(hospitals: Hospitals, seconds: float) -> None:
    federation, run = hospitals.federation, f"cut-{seconds:.0f}"
    federation.begin(hospitals.study("short"), run)
    federation.wait_for(lambda: federation.is_in_flight("north", 1, 2), 120)
    before = federation.rounds(run)
    cut(hospitals, "north", seconds)
    took = federation.wait_for(lambda: len(federation.rounds(run)) > len(before), 180)
    print(f"cut for {seconds} s in a round: {took:.1f} s to the next recorded round")
    hospitals.check_end(run, "short")
    assert federation.rounds(run)[: len(before)] == before
    assert federation.services["north"].codes == [], "it was never started again"


@pytest.mark.parametrize("seconds", CUTS_S)
def test_a_hospital_that_is_cut_off_at_rest_comes_back(hospitals: Hospitals, seconds: float) -> None:
    federation, run = hospitals.federation, f"rest-{seconds:.0f}"
    cut(hospitals, "north", seconds)
    federation.begin(hospitals.study("short"), run)
    took = federation.wait_for(lambda: len(federation.rounds(run)) > 0, 240)
    print(f"cut for {seconds} s at rest: {took:.1f} s from the submission of a run to its first recorded round")
    hospitals.check_end(run, "short")
    assert federation.services["north"].codes == [], "it was never started again"


def test_both_sides_are_started_again_at_once(hospitals: Hospitals) -> None:
    """As after a power cut that is noticed: SIGTERM, in a round in flight."""
    federation, run = hospitals.federation, "both"
    federation.begin(hospitals.study("short"), run)
    federation.wait_for(lambda: federation.is_in_flight("south", 1, 2), 120)
    before, began = federation.rounds(run), time.monotonic()
    for name in ("link", "south"):
        os.kill(federation.services[name].pid, signal.SIGTERM)
    federation.wait_for(lambda: len(federation.rounds(run)) > len(before), 180)
    print(f"both sides started again: {time.monotonic() - began:.1f} s to the next recorded round")
    hospitals.check_end(run, "short")
    assert federation.rounds(run)[: len(before)] == before
    assert (federation.link.codes, federation.services["south"].codes) == ([0], [0])
