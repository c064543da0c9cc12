"""Four hospitals, each behind a network as hospitals have it, in namespaces: real processes, TLS, all stages.

north is reached by IPv6, south by a proxy with a login, west by a proxy that opens TLS, east by a line of 1 Mbit/s that
takes 300 ms there and back and loses 2 %. South and west have no other way out. Slow.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
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
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


@dataclass(frozen=True)
class Hospitals:
    """Hospitals at work, each behind a network of its own."""

    federation: Federation
    network: Network
    study: Path
    expected: Path

    def proxy(self, kind: str, login: str = "") -> dict[str, str]:
        """The environment that names a proxy."""
        at = f"{self.network.address('proxy')}:{PORTS[kind]}"
        return {"HTTPS_PROXY": f"http://{login}@{at}" if login else f"http://{at}"}


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospitals]:
    folder, threads = tmp_path_factory.mktemp("networks"), torch.get_num_threads()
    study = folder / "study.toml"
    longer = STUDY.replace("rounds = 1\n", "rounds = 3\nepochs = 20\n")
    study.write_text(longer.replace("deadline_s = 300.0", "deadline_s = 1800.0"))
    read, sites = read_study(study), [PhantomSite(source="phantom", name=name, cases=8) for name in HOSPITALS]
    made = tuple(prepare_hospital(site, read, folder / "cache", lambda site, done, count: None) for site in sites)
    tiny = TinyFederation(study, read, made)
    run_local(read, "quiet", folder / "quiet" / "run", tiny.write_sites(folder / "quiet" / "sites"))
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
            federation.open(study)
            federation.connect()
            yield Hospitals(federation, network, study, folder / "quiet" / "run")
        finally:
            federation.close()


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
    federation.begin(hospitals.study, "whole")
    assert federation.wait_for_end("whole", 600) == 0, federation.services["whole"].said()
    print(f"a study with all stages: {time.monotonic() - began:.1f} s")
    assert_same_result(federation.out("whole"), hospitals.expected)
    for name in HOSPITALS:
        assert federation.services[name].codes == []


def guest(hospitals: Hospitals, folder: Path, environment: dict[str, str]) -> Federation:
    """A hospital that joins what is there, from a namespace that a test gives what it wants."""
    place = Place(hospitals.network.inside("guest"), environment, hospitals.network.address("hub"))
    hospitals.federation.places["guest"] = place
    hospitals.federation.files["guest"] = folder / "guest" / "site.toml"
    return hospitals.federation


@pytest.fixture
def no_guest(hospitals: Hospitals) -> Iterator[None]:
    """Whoever was a guest has left."""
    yield
    federation = hospitals.federation
    if service := federation.services.pop("guest", None):
        service.end()
    federation.files.pop("guest", None)
    with suppress(subprocess.CalledProcessError):
        call(
            "ip", "-n", f"{hospitals.network.prefix}guest", "route", "del", "unreachable", federation.place("link").host
        )


@pytest.mark.usefixtures("no_guest")
def test_joining_through_proxies(hospitals: Hospitals, tmp_path: Path) -> None:
    hub = hospitals.network.address("hub")
    close_way(hospitals.network, "guest", hub)
    tries = {
        "no proxy": ({}, "did not answer"),
        "no login": (hospitals.proxy("login"), "where it asks for a login, set HTTPS_PROXY="),
        "wrong login": (hospitals.proxy("login", "hospital:guess"), "407"),
        "opens TLS": (hospitals.proxy("opening"), "--proxy-ca FILE"),
    }
    for what, (environment, expected) in tries.items():
        federation = guest(hospitals, tmp_path, environment)
        done = federation.ask(
            "guest", "prostafed-site", "join", federation.invite("guest"), *federation.join_options("guest")
        )
        print(f"{what}: {done.stderr.strip()}")
        assert done.returncode != 0, what
        assert expected in done.stderr, what
        assert "guess" not in done.stdout + done.stderr
    federation = guest(hospitals, tmp_path, hospitals.proxy("plain"))
    federation.must("guest", "prostafed-site", "join", federation.invite("guest"), *federation.join_options("guest"))


def start_guest(federation: Federation, environment: dict[str, str]) -> Service:
    """Start the guest's site with this environment; what it says is in a log of its own."""
    place, number = federation.place("guest"), len(list(federation.folder.glob("guest-*.log")))
    file = federation.files["guest"]
    (file.parent / "cases").mkdir(exist_ok=True)
    command = [*place.before, find_command("prostafed-site"), "start", str(file)]
    service = Service(command, federation.folder / f"guest-{number}.log", environment, is_wanted=False)
    federation.services["guest"] = service
    service.start()
    return service


@pytest.mark.usefixtures("no_guest")
@pytest.mark.parametrize(
    ("kind", "login", "expected"),
    [
        ("login", "hospital:guess", "The proxy that HTTPS_PROXY names does not let this site through."),
        ("opening", "", "was signed by another authority"),
    ],
)
def test_a_site_says_what_a_proxy_does(
    hospitals: Hospitals, tmp_path: Path, kind: str, login: str, expected: str
) -> None:
    """And connects by itself once that is mended, here: with another proxy."""
    federation = guest(hospitals, tmp_path, {})
    federation.must("guest", "prostafed-site", "join", federation.invite("guest"), *federation.join_options("guest"))
    close_way(hospitals.network, "guest", federation.place("link").host)
    service = start_guest(federation, hospitals.proxy(kind, login))
    federation.wait_for(lambda: expected in service.said(), 60)
    assert service.process is not None
    assert service.process.poll() is None, "it goes on trying"
    assert expected in federation.status("guest")["error"]
    assert "guess" not in service.said()
    print(service.said())
    service.end()
    service = start_guest(federation, hospitals.proxy("plain"))
    federation.wait_for(lambda: "Connected" in service.said(), 60)


@pytest.mark.usefixtures("no_guest")
@pytest.mark.skipif(not Path(FAKETIME).exists(), reason="another clock needs the package libfaketime")
@pytest.mark.parametrize(
    ("shift", "expected"),
    [("+10m", "10 minutes ahead of"), ("-10m", "10 minutes behind"), ("+1m", "60 seconds ahead of"), ("-1m", "")],
)
def test_a_clock_that_is_off_is_named(hospitals: Hospitals, tmp_path: Path, shift: str, expected: str) -> None:
    clock = {"LD_PRELOAD": FAKETIME, "FAKETIME": shift, "DONT_FAKE_MONOTONIC": "1"}
    federation = guest(hospitals, tmp_path, clock)
    said = federation.must(
        "guest", "prostafed-site", "join", federation.invite("guest"), *federation.join_options("guest")
    )
    print(said)
    assert expected in said
    service = start_guest(federation, clock)
    federation.wait_for(lambda: (expected or "Connected") in service.said(), 60)
    print(service.said())
    if expected:
        assert f"The clock of this machine is {expected} the coordinator's. Set it, best by NTP." in service.said()
        assert service.process is not None
        assert service.process.poll() is None, "it goes on trying"


def cut(hospitals: Hospitals, name: str, seconds: float) -> None:
    """Take a hospital off the network for a while."""
    hospitals.network.cut(name)
    until = time.monotonic() + seconds
    hospitals.federation.wait_for(lambda: time.monotonic() > until, seconds + 5)
    hospitals.network.mend(name)


def check_end(hospitals: Hospitals, run: str) -> None:
    """The run ends well, as on one machine."""
    assert hospitals.federation.wait_for_end(run, 600) == 0, hospitals.federation.services[run].said()
    assert_same_result(hospitals.federation.out(run), hospitals.expected)


@pytest.mark.parametrize("seconds", CUTS_S)
def test_a_hospital_that_is_cut_off_in_a_round_comes_back(hospitals: Hospitals, seconds: float) -> None:
    federation, run = hospitals.federation, f"cut-{seconds:.0f}"
    federation.begin(hospitals.study, run)
    federation.wait_for(lambda: federation.is_in_flight("north", 1, 2), 120)
    before = federation.rounds(run)
    cut(hospitals, "north", seconds)
    took = federation.wait_for(lambda: len(federation.rounds(run)) > len(before), 180)
    print(f"cut for {seconds} s in a round: {took:.1f} s to the next recorded round")
    check_end(hospitals, run)
    assert federation.rounds(run)[: len(before)] == before
    assert federation.services["north"].codes == [], "it was never started again"


@pytest.mark.parametrize("seconds", CUTS_S)
def test_a_hospital_that_is_cut_off_at_rest_comes_back(hospitals: Hospitals, seconds: float) -> None:
    federation, run = hospitals.federation, f"rest-{seconds:.0f}"
    cut(hospitals, "north", seconds)
    federation.begin(hospitals.study, run)
    took = federation.wait_for(lambda: len(federation.rounds(run)) > 0, 240)
    print(f"cut for {seconds} s at rest: {took:.1f} s from the submission of a run to its first recorded round")
    check_end(hospitals, run)
    assert federation.services["north"].codes == [], "it was never started again"


def test_both_sides_are_started_again_at_once(hospitals: Hospitals) -> None:
    """As after a power cut that is noticed: SIGTERM, in a round in flight."""
    federation, run = hospitals.federation, "both"
    federation.begin(hospitals.study, run)
    federation.wait_for(lambda: federation.is_in_flight("south", 1, 2), 120)
    before, began = federation.rounds(run), time.monotonic()
    for name in ("link", "south"):
        os.kill(federation.services[name].pid, signal.SIGTERM)
    federation.wait_for(lambda: len(federation.rounds(run)) > len(before), 180)
    print(f"both sides started again: {time.monotonic() - began:.1f} s to the next recorded round")
    check_end(hospitals, run)
    assert federation.rounds(run)[: len(before)] == before
    assert (federation.link.codes, federation.services["south"].codes) == ([0], [0])
