"""The proxies of deploy/, started: what hospitals need passes, and nothing else reaches the door."""

import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from prostafed.common.shell.processes import find_free_port
from prostafed.server.link.pki import Pki, create_pki

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@dataclass
class Door:
    """Stands for the door: remembers what reached it, and says how many bytes a body had."""

    port: int = 0
    seen: list[tuple[str, str]] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            size, more = size + len(event.get("body", b"")), event.get("more_body", False)
        self.seen.append((scope["method"], scope["raw_path"].decode()))
        self.clients += [value.decode() for name, value in scope["headers"] if name == b"x-forwarded-for"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(size).encode()})


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    made = Door()
    config = uvicorn.Config(made, log_level="critical", lifespan="off", proxy_headers=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made.port = listener.getsockname()[1]
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield made
        server.should_exit = True
        thread.join()


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs before a door."""

    port: int
    pki: Pki
    door: Door

    def ask(
        self, method: str, path: str, body: Any = None, host: str = "localhost", headers: Mapping[str, str] = {}
    ) -> tuple[int, bytes]:
        """Send the path as it stands, which no client library would; 0 is the status where the proxy hangs up."""
        context = ssl.create_default_context(cafile=self.pki.ca_certificate)
        connection = HTTPSConnection(host, self.port, timeout=20, context=context)
        try:
            connection.request(method, path, body, dict(headers), encode_chunked=hasattr(body, "__next__"))
            response = connection.getresponse()
            return response.status, response.read()
        except (HTTPException, OSError):
            return 0, b""
        finally:
            connection.close()


def say_nginx(text: str, folder: Path, proxy: Proxy) -> tuple[str, list[str]]:
    text = text.replace("listen 443", f"listen 127.0.0.1:{proxy.port}").replace("        listen [::]:443 ssl;\n", "")
    text = text.replace("/run/prostafed-nginx.pid", str(folder / "nginx.pid"))
    text = text.replace("/var/log/nginx/prostafed.log", str(folder / "nginx.log"))
    paths = "".join(
        f"{part}_temp_path {folder / part};" for part in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return text.replace("http {", f"http {{ {paths}"), ["nginx", "-g", "daemon off;", "-c"]


def say_caddy(text: str, folder: Path, proxy: Proxy) -> tuple[str, list[str]]:
    text = text.replace("\n:443 ", f"\n:{proxy.port} ").replace("/run/prostafed-caddy.sock", str(folder / "caddy.sock"))
    return text, ["caddy", "run", "--adapter", "caddyfile", "--config"]


PROGRAMS = {"nginx.conf": say_nginx, "Caddyfile": say_caddy}


@contextmanager
def running(command: list[str], folder: Path, port: int) -> Iterator[None]:
    """Run a program until it listens at `port`, and end it afterwards."""
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        for _ in range(400):
            assert process.poll() is None, log.read_text()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture(scope="module", params=PROGRAMS)
def proxy(request: pytest.FixtureRequest, door: Door, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    name: str = request.param
    folder = tmp_path_factory.mktemp("proxy")
    made = Proxy(find_free_port(), create_pki(folder / "pki"), door)
    text, command = PROGRAMS[name]((DEPLOY / name).read_text(), folder, made)
    text = text.replace("/srv/prostafed", str(folder)).replace("127.0.0.1:8000", f"127.0.0.1:{door.port}")
    program = shutil.which(command[0]) or shutil.which(command[0], path="/usr/sbin")
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    (folder / name).write_text(text)
    with running([program, *command[1:], str(folder / name)], folder, made.port):
        yield made


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/fleet/pull-messages"),
        ("POST", "/v1/fleet/activate-node"),
        ("POST", "/v1/join"),
        ("GET", "/health"),
    ],
)
def test_what_hospitals_need_passes(proxy: Proxy, method: str, path: str, host: str) -> None:
    body = b"12345" if method == "POST" else None
    assert proxy.ask(method, path, body, host) == (200, b"5" if body else b"0")
    assert proxy.door.seen[-1] == (method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/control/list-runs"), ("POST", "/v1/runtime/x"), ("GET", "/docs"), ("GET", "/openapi.json"),
        ("GET", "/"), ("GET", "/v1/fleet/pull-messages"), ("PUT", "/v1/fleet/pull-messages"), ("POST", "/health"),
        ("GET", "/v1/join"), ("POST", "/v1/fleet/"), ("POST", "/v1/fleet"), ("POST", "/v1/fleet/x/y"),
        ("POST", "/v1/fleet/../control/list-runs"), ("POST", "/v1/fleet/%2e%2e/control/list-runs"),
        ("POST", "/v1/fleet/..%2fcontrol"), ("POST", "/v1/control/../fleet/pull-messages"), ("POST", "//v1/fleet/x"),
        ("POST", "/v1/fleet/x%0a"), ("POST", "/v1/fleet/x%0d%0aX:1"), ("POST", "/v1/fleet/x?y=/v1/control/list-runs"),
        ("POST", "/V1/FLEET/x"), ("POST", "/v1/joins"), ("GET", "/health/../docs"), ("POST", "/v1/fleet/x;y"),
        ("POST", "https://localhost/v1/control/list-runs"), ("CONNECT", "127.0.0.1:22"),
    ],
)  # fmt: skip
def test_nothing_else_reaches_the_door(proxy: Proxy, method: str, path: str) -> None:
    before = len(proxy.door.seen)
    status, _ = proxy.ask(method, path, b"1" if method in ("POST", "PUT") else None)
    assert status == 0 or 400 <= status < 500
    assert len(proxy.door.seen) == before


def test_a_body_of_6_mb_passes_and_one_of_20_mb_does_not(proxy: Proxy) -> None:
    """Flower sends objects in parts of 5 MiB."""
    assert proxy.ask("POST", "/v1/fleet/push-object", b"x" * 6_000_000) == (200, b"6000000")
    chunks = (b"x" * 1_000_000 for _ in range(6))
    assert proxy.ask("POST", "/v1/fleet/push-object", chunks) == (200, b"6000000")
    before = len(proxy.door.seen)
    for body in (b"x" * 20_000_000, (b"x" * 1_000_000 for _ in range(20))):
        status, _ = proxy.ask("POST", "/v1/fleet/push-object", body)
        assert status == 0 or status >= 400
    assert len(proxy.door.seen) == before


def test_a_client_does_not_say_where_it_comes_from(proxy: Proxy) -> None:
    proxy.ask("POST", "/v1/join", b"1", headers={"X-Forwarded-For": "10.9.8.7"})
    assert proxy.door.clients[-1] == "127.0.0.1"
