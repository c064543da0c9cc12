"""HTTP servers of this process, in one thread: uvicorn, which Flower brings, with a deadline for silent clients."""

import asyncio
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from prostafed.common.errors import ConfigurationError

HEADERS_S = 15.0  # from the opening of a connection, or the end of a request, to the whole headers of the next
KEEP_S = 75.0  # that a connection may rest between two requests
FROM_ONE, IN_ALL = 64, 512  # connections of one address, and of all, from the first packet on


class _Counted(socket.socket):
    """A connection that is counted until it is closed."""

    on_close: Callable[[], None] | None = None

    def close(self) -> None:
        """Close it, and count it no more."""
        on_close, self.on_close = self.on_close, None
        super().close()
        if on_close:
            on_close()


class Doorstep(socket.socket):
    """A listening socket that takes only so many connections of one address, and of all: before TLS, since whoever says
    nothing on a connection would hold it open all the same, and with enough of them every file of this process.
    """

    apart = True  # whether addresses tell clients apart; behind a proxy they do not

    def __init__(self, listening: socket.socket) -> None:
        """Listen in the place of `listening`."""
        super().__init__(listening.family, listening.type, listening.proto, listening.detach())
        self._open: Counter[str] = Counter()  # by address

    def accept(self) -> tuple[socket.socket, Any]:
        """Take the next connection; one too many is closed, and counts as one that its client has given up."""
        taken, address = super().accept()
        client = name_client(str(address[0]))
        if self._open.total() >= IN_ALL or (self.apart and self._open[client] >= FROM_ONE):
            taken.close()
            raise ConnectionAbortedError
        self._open[client] += 1
        # Told that it is TCP, asyncio sends at once; else each answer waits 40 ms for the other side's acknowledgement.
        connection = _Counted(taken.family, taken.type, socket.IPPROTO_TCP, taken.detach())
        connection.on_close = lambda: self._forget(client)
        return connection, address

    def _forget(self, client: str) -> None:
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]


def name_client(address: str) -> str:
    """Return what stands for a client: its address, of IPv6 the network that one customer has all addresses of."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return str(ip_network((found, 64), strict=False))
    return str(found.ipv4_mapped or found) if isinstance(found, IPv6Address) else address


class Guarded(H11Protocol):
    """HTTP/1.1 to a stranger: a connection without a request is closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEADERS_S, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of headers that never end do not put the deadline off."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._timer.cancel()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._timer.cancel()
        self._timer = self.loop.call_later(KEEP_S + HEADERS_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._timer.cancel()
        super().connection_lost(exc)


@dataclass(frozen=True)
class Listener:
    """An ASGI app and where it listens."""

    app: Any
    socket: socket.socket
    tls: ssl.SSLContext | None = None
    guarded: bool = False  # strangers reach it
    behind_proxy: bool = False  # on loopback, which says who asks


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Any:
        yield  # signals are the main thread's


class Serving:
    """Listeners that are served until `close`."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._servers = [_Server(_configure(each)) for each in listeners]
        self._sockets = [_guard(each) for each in listeners]
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        async def serve() -> None:
            pairs = zip(self._servers, self._sockets, strict=True)
            await asyncio.gather(*(server.serve(sockets=[each]) for server, each in pairs))

        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(serve())

    @property
    def alive(self) -> bool:
        """Whether requests are served."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End all; what is being answered has a moment to be answered."""
        for server in self._servers:
            server.should_exit = True
        self._thread.join(timeout=5.0)


def _guard(listener: Listener) -> socket.socket:
    if not listener.guarded:
        return listener.socket
    doorstep = Doorstep(listener.socket)
    doorstep.apart = not listener.behind_proxy
    return doorstep


def _configure(listener: Listener) -> uvicorn.Config:
    config = uvicorn.Config(
        listener.app,
        http=Guarded if listener.guarded else "h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=listener.behind_proxy,
        forwarded_allow_ips="127.0.0.1",
        log_level="error",  # strangers write no lines
        timeout_keep_alive=int(KEEP_S),
        timeout_graceful_shutdown=1,
    )
    config.load()
    config.ssl = listener.tls  # ours, so that a renewed certificate can be loaded into it
    return config


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host`; "" stands for every address of the machine, IPv4 and IPv6."""
    try:
        if host:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, port), family=family)
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host or 'this machine'}, port {port}: {error.strerror or error}. Choose another with "
            "--host and --port, or end what listens there."
        ) from error


def listen_here(path: Path) -> socket.socket:
    """Return a Unix socket at `path`, in a folder that only its owner can open."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(0o600)
    listening.listen()
    return listening
