"""What monitors ask a program that runs for days: GET /health, and the standard gRPC service grpc.health.v1.

Neither tells anything that can be changed, and both listen on loopback unless another address is named. The health
service knows the names "" (it runs) and "ready" (all is well).
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SOCK_STREAM, getaddrinfo
from socketserver import TCPServer
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from prostafed.common.errors import ConfigurationError, ProstafedError
from prostafed.common.shell.health import Condition, Health
from prostafed.common.shell.processes import LOOPBACK

HealthHttp = Annotated[
    str, typer.Option("--health", metavar="[HOST:]PORT", help="Serve GET /health there, on loopback by default.")
]
HealthGrpc = Annotated[
    str,
    typer.Option("--health-grpc", metavar="[HOST:]PORT", help="Serve grpc.health.v1 there, on loopback by default."),
]
READY = "ready"  # the service of grpc.health.v1 that follows all conditions
KEEP_S, WATCH_S = 2.0, 5.0  # an answer is given again for so long; watchers hear of a change after so long
_SILENT_S, _AT_ONCE = 5.0, 16


@contextmanager
def serving_health(look: Callable[[], Health], http: str = "", grpc: str = "") -> Iterator[None]:
    """Serve what `look` tells at the places that are named, "" for none. Raises ConfigurationError where one is no
    place, or taken.
    """
    lookout = Lookout(look)
    with ExitStack() as open_servers:
        if http:
            open_servers.enter_context(_serving_http(lookout, *read_place(http, "--health")))
        if grpc:
            open_servers.enter_context(_serving_grpc(lookout, *read_place(grpc, "--health-grpc")))
        yield


def read_place(text: str, option: str) -> tuple[str, int]:
    """Return host and port of [HOST:]PORT; the host is loopback where none is named."""
    try:
        parts = urlsplit(f"//{LOOPBACK}:{text}" if text.isdecimal() else f"//{text}")
        if parts.hostname and parts.port and "@" not in text and not (parts.path or parts.query or parts.fragment):
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise ConfigurationError(f"{option} is {text!r}, expected a port, or HOST:PORT as in 127.0.0.1:9095.")


@dataclass
class Lookout:
    """What `look` last told; asked often, it looks seldom."""

    look: Callable[[], Health]
    _told: Health | None = None
    _at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self) -> Health:
        """Return the state, not older than KEEP_S."""
        with self._lock:
            if self._told is None or time.monotonic() - self._at > KEEP_S:
                try:
                    self._told = self.look()
                except (ProstafedError, OSError) as error:  # a site file that is being edited, a disk that is gone
                    wrong = Condition("status", False, str(error), "Mend what the sentence names.")
                    self._told = Health(True, (wrong,), "")
                self._at = time.monotonic()
            return self._told


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, lookout: Lookout, host: str, port: int) -> None:
        self.lookout, self._free = lookout, threading.BoundedSemaphore(_AT_ONCE)
        self.address_family = getaddrinfo(host, port, type=SOCK_STREAM)[0][0]
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind, and look up no name of this machine, which can take seconds."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):  # slow clients hold up each other, and no more than that
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off is none of our errors."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _SILENT_S
    server: _HttpServer
    server_version, sys_version = "prostafed", ""

    def do_GET(self) -> None:
        """Answer GET /health."""
        if self.path != "/health":
            self.send_error(404)
            return
        health = self.server.lookout.tell()
        body = json.dumps(health.as_json(), indent=2, sort_keys=True).encode() + b"\n"
        self.send_response(200 if health.ready else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Probes come every few seconds: no line for each."""


@contextmanager
def _serving_http(lookout: Lookout, host: str, port: int) -> Iterator[None]:
    try:
        server = _HttpServer(lookout, host, port)
    except OSError as error:
        raise _taken("--health", host, port) from error
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 1.0}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _serving_grpc(lookout: Lookout, host: str, port: int) -> Iterator[None]:
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    states = {True: health_pb2.HealthCheckResponse.SERVING, False: health_pb2.HealthCheckResponse.NOT_SERVING}
    servicer = health.HealthServicer()
    server = grpc.server(
        ThreadPoolExecutor(_AT_ONCE), options=[("grpc.so_reuseport", 0)], maximum_concurrent_rpcs=_AT_ONCE
    )
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    try:
        if not server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"):
            raise RuntimeError
    except RuntimeError as error:
        raise _taken("--health-grpc", host, port) from error
    over = threading.Event()

    def watch() -> None:
        while True:
            told = lookout.tell()
            servicer.set("", states[told.running])
            servicer.set(READY, states[told.ready])
            if over.wait(WATCH_S):
                return

    servicer.set(READY, states[False])
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    server.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(timeout=WATCH_S)
        servicer.enter_graceful_shutdown()
        server.stop(grace=1.0).wait()


def _taken(option: str, host: str, port: int) -> ConfigurationError:
    return ConfigurationError(
        f"Cannot listen on {host}, port {port}, for {option}. Name another, or end what listens there."
    )
