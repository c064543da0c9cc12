"""Monitors over HTTP and gRPC get what `status` tells; nobody holds them up."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell import probes
from prostafed.common.shell.health import Condition, Health
from prostafed.common.shell.probes import Lookout, read_place, serving_health
from prostafed.common.shell.processes import find_free_port

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass
class Patient:
    """A program whose health is whatever a test says; `asked` counts the looks."""

    running: bool = True
    ok: bool = True
    error: Exception | None = None
    asked: int = 0

    def look(self) -> Health:
        self.asked += 1
        if self.error:
            raise self.error
        return Health(self.running, (Condition("disk", self.ok, "text", "" if self.ok else "Make room."),), "")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Patient:
    monkeypatch.setattr(probes, "KEEP_S", -1.0)
    monkeypatch.setattr(probes, "WATCH_S", 0.02)
    return Patient()


@pytest.fixture
def serve(patient: Patient) -> Iterator[Callable[[str], int]]:
    """Return what serves over "http" or "grpc", and gives the port."""
    with ExitStack() as servers:

        def start(kind: str) -> int:
            port = find_free_port()
            servers.enter_context(serving_health(patient.look, **{kind: str(port)}))
            return port

        yield start


def test_http_says_what_status_says(patient: Patient, serve: Callable[[str], int]) -> None:
    url = f"http://127.0.0.1:{serve('http')}/health"
    answer = httpx.get(url)
    assert (answer.status_code, answer.json()) == (200, patient.look().as_json())
    patient.ok = False
    answer = httpx.get(url)
    assert (answer.status_code, answer.json()) == (503, patient.look().as_json())
    assert answer.json()["conditions"][0]["fix"] == "Make room."
    patient.ok, patient.running = True, False
    assert httpx.get(url).status_code == 503


def test_http_serves_nothing_else(serve: Callable[[str], int]) -> None:
    url = f"http://127.0.0.1:{serve('http')}"
    assert [httpx.get(f"{url}{path}").status_code for path in ("/", "/health/", "/../site.toml")] == [404] * 3
    assert httpx.post(f"{url}/health").status_code == 501


def test_silent_clients_hold_nobody_up(serve: Callable[[str], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes._Handler, "timeout", 60.0)  # a busy machine is not to outlast them
    port = serve("http")
    with ExitStack() as silent:
        for _ in range(probes._AT_ONCE - 1):
            silent.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        silent.enter_context(socket.create_connection(("127.0.0.1", port)))
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/health")


def test_a_site_file_that_is_being_edited_is_no_end_of_the_program(
    patient: Patient, serve: Callable[[str], int]
) -> None:
    url = f"http://127.0.0.1:{serve('http')}/health"
    patient.error = ConfigurationError("site.toml: line 3 is none.")
    answer = httpx.get(url)
    assert answer.status_code == 503
    assert answer.json()["conditions"][0]["text"] == "site.toml: line 3 is none."
    patient.error = None
    assert httpx.get(url).status_code == 200


def test_what_is_asked_often_is_looked_at_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    patient, clock = Patient(), iter([100.0, 100.5, 101.9, 102.1, 102.1])
    monkeypatch.setattr(probes.time, "monotonic", lambda: next(clock))
    lookout = Lookout(patient.look)
    for _ in range(4):
        lookout.tell()
    assert patient.asked == 2


def test_grpc_checks_what_kubernetes_asks(patient: Patient, serve: Callable[[str], int]) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{serve('grpc')}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watched = stub.Watch(health_pb2.HealthCheckRequest(service="ready"), timeout=20)
        states = (each.status for each in watched)
        assert next(each for each in states if each == SERVING) == SERVING
        assert stub.Check(health_pb2.HealthCheckRequest(service="ready"), timeout=20).status == SERVING
        patient.ok = False
        assert next(states) == NOT_SERVING
        assert stub.Check(health_pb2.HealthCheckRequest(service="ready"), timeout=20).status == NOT_SERVING
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status == SERVING, "it is alive"
        patient.ok = True
        assert next(states) == SERVING
        watched.cancel()
        with pytest.raises(grpc.RpcError) as raised:
            stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=20)
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_grpc_says_goodbye_to_whoever_watches(patient: Patient) -> None:
    port = find_free_port()
    with ExitStack() as server:
        server.enter_context(serving_health(patient.look, grpc=str(port)))
        channel = server.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watched).status == SERVING


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("9095", ("127.0.0.1", 9095)),
        ("127.0.0.1:9095", ("127.0.0.1", 9095)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:9095", ("::1", 9095)),
        ("monitor.local:9095", ("monitor.local", 9095)),
    ],
)
def test_a_place_is_loopback_unless_another_is_named(text: str, place: tuple[str, int]) -> None:
    assert read_place(text, "--health") == place


@pytest.mark.parametrize("text", ["0", "99999", "host", "host:", ":9095", "a b:1/x", "u@h:1", "h:1/health", "h:x"])
def test_what_is_no_place_is_said(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--health is .*, expected a port, or HOST:PORT"):
        read_place(text, "--health")


@pytest.mark.parametrize(("kind", "option"), [("http", "--health"), ("grpc", "--health-grpc")])
def test_a_place_that_is_taken_is_said(kind: str, option: str, patient: Patient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=f"Cannot listen on 127.0.0.1, port {port}, for {option}"),
            serving_health(patient.look, **{kind: str(port)}),
        ):
            pass


def test_without_a_place_no_port_is_opened_and_nobody_looks(patient: Patient) -> None:
    with serving_health(patient.look):
        assert patient.asked == 0


def test_two_programs_share_no_port(patient: Patient, serve: Callable[[str], int]) -> None:
    port = serve("grpc")
    with (
        pytest.raises(ConfigurationError, match="for --health-grpc"),
        serving_health(patient.look, grpc=str(port)),
    ):
        pass
