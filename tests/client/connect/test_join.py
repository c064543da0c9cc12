"""A hospital joins over real TLS, and whatever keeps it from joining is one sentence with what to do."""

import errno
import json
import socket
import stat
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from prostafed.client.connect import enrolment, join
from prostafed.client.connect.clock import read_skew_s, say_skew
from prostafed.client.connect.join import join_federation
from prostafed.client.site.site_file import read_site_file
from prostafed.common.errors import ConfigurationError, JoinError, ProstafedError, RequestError
from prostafed.common.shell.keys import create_node_key, read_public_key
from prostafed.server.link.invitations import invite, redeem, write_join_file
from prostafed.server.link.pki import Pki, create_pki
from tests.client.preflight.test_preflight import listening, relay
from tests.programs import call

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(enrolment, "TIMEOUT_S", 3.0)


class Door:
    """A coordinator's home, and an app that redeems its invitations; `answer` alters what goes out."""

    def __init__(self, home: Path, port: int = 0) -> None:
        self.home, self.asked = home, 0
        self.answer: Callable[[int, bytes], tuple[int, bytes]] = lambda status, content: (status, content)
        self.date = ""
        self.port = port
        if not (home / "pki").exists():
            create_pki(home / "pki")

    def enrol(self, name: str, key: bytes) -> None:
        (self.home / "sites").mkdir(exist_ok=True)
        (self.home / "sites" / f"{name}.pub").write_bytes(key + b"\n")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert (scope["method"], scope["path"]) == ("POST", "/v1/join")
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        self.asked += 1
        try:
            status, content = 200, redeem(self.home, body, datetime.now(UTC), self.enrol)
        except JoinError as error:
            status, content = 403, str(error).encode()
        status, content = self.answer(status, content)
        headers = [(b"date", self.date.encode())] if self.date else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def invite(self, folder: Path, name: str = "north", host: str = "localhost", **options: Any) -> Path:
        made = invite(self.home, name, f"{host}:{self.port}", 7, options.pop("now", NOW), **options)
        path = folder / f"{name}-{time.monotonic_ns()}.join"
        write_join_file(path, made)
        return path


@contextmanager
def serving(app: Any, pki: Pki) -> Iterator[int]:
    """Serve `app` over TLS on loopback, in a thread; yields the port."""
    config = uvicorn.Config(
        app, log_level="critical", lifespan="off", date_header=not getattr(app, "date", ""),
        ssl_certfile=pki.server_certificate, ssl_keyfile=str(pki.server_key),
    )  # fmt: skip
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


DOORS: list[Door] = []  # the last one answers


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """One server for all tests, for the time its start takes: the folder of its keys, and its port."""

    async def pass_on(scope: Any, receive: Any, send: Any) -> None:
        await DOORS[-1](scope, receive, send)

    pki = create_pki(tmp_path_factory.mktemp("pki"))
    with serving(pass_on, pki) as port:
        yield pki.folder, port


@pytest.fixture
def door(tmp_path: Path, running: tuple[Path, int]) -> Door:
    folder, port = running
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "pki").symlink_to(folder)
    DOORS.append(Door(tmp_path / "home", port))
    return DOORS[-1]


def refuse(path: Path, folder: Path | None, error: type[ProstafedError] = RequestError, **options: Any) -> str:
    with pytest.raises(error) as raised:
        join_federation(path, folder, options.get("proxy_ca"), options.get("now", NOW))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_from_nothing_to_a_site_that_the_coordinator_knows(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = door.invite(tmp_path)
    done = call("prostafed-site", "join", path, "--json")
    assert done.code == 0, done.err
    address = f"localhost:{door.port}"
    assert done.json == {"site": "north/site.toml", "name": "north", "coordinator": address, "made": True}
    site = read_site_file(tmp_path / "north" / "site.toml")
    assert site.server is not None
    assert site.server.address == address
    assert site.server.root_certificates.read_text() == Pki(door.home / "pki").ca_certificate.read_text()
    assert stat.S_IMODE(site.server.key.stat().st_mode) == 0o600
    enrolled = read_public_key(door.home / "sites" / "north.pub")
    assert enrolled == read_public_key(tmp_path / "north" / "north.key.pub")
    assert site.secret.exists()
    assert site.cases.is_dir()
    again = call("prostafed-site", "join", path)
    assert again.code == 0
    assert "knows this site as north" in again.out
    assert "site.secret" not in again.out, "nothing was made"
    assert again.out.splitlines()[-1].endswith("start north/site.toml")


def test_the_key_never_leaves_and_the_code_is_not_kept(door: Door, tmp_path: Path) -> None:
    sent: list[bytes] = []

    async def spy(scope: Any, receive: Any, send: Any) -> None:
        async def receiving() -> Any:
            event = await receive()
            sent.append(event.get("body", b""))
            return event

        await door(scope, receiving, send)

    with serving(spy, Pki(door.home / "pki")) as door.port:
        path = door.invite(tmp_path)
        join_federation(path, tmp_path / "north", None, NOW)
    assert set(json.loads(b"".join(sent))) == {"name", "code", "public_key", "proof"}
    code = json.loads(b"".join(sent))["code"]
    kept = [each for each in (tmp_path / "north").rglob("*") if each.is_file() and code in each.read_text()]
    assert not kept


@pytest.mark.parametrize("failing", ["open_node_key", "ask_to_enrol", "write_text", "set_server", "read_site_file"])
def test_whatever_fails_in_between_the_command_can_be_run_again(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path, folder = door.invite(tmp_path), tmp_path / "north"
    real = getattr(join, failing)

    def fail(*arguments: Any) -> Any:
        if failing == "ask_to_enrol":
            real(*arguments)  # the answer is lost
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(join, failing, fail)
        with pytest.raises(KeyboardInterrupt):
            join_federation(path, folder, None, NOW)
    assert "\n[server]" not in (folder / "site.toml").read_text()
    join_federation(path, folder, None, NOW)
    site = read_site_file(folder / "site.toml")
    assert site.server is not None
    assert read_public_key(door.home / "sites" / "north.pub") == read_public_key(folder / "north.key.pub")
    assert len(list((door.home / "sites").iterdir())) == 1


@pytest.mark.parametrize("there", [["site.secret"], ["site.secret", "north.key"], ["north.key", "north.key.pub"]])
def test_a_folder_that_was_half_made_is_completed(door: Door, tmp_path: Path, there: list[str]) -> None:
    path, folder = door.invite(tmp_path), tmp_path / "north"
    folder.mkdir()
    create_node_key(folder / "north.key", "north")
    (folder / "site.secret").write_text("ab" * 32)
    for each in list(folder.iterdir()):
        if each.name not in there:
            each.unlink()
    before = {name: (folder / name).read_bytes() for name in there}
    join_federation(path, folder, None, NOW)
    assert {name: (folder / name).read_bytes() for name in there} == before
    assert read_public_key(door.home / "sites" / "north.pub") == read_public_key(folder / "north.key.pub")


def test_a_public_key_without_its_private_one_is_not_replaced(door: Door, tmp_path: Path) -> None:
    path, folder = door.invite(tmp_path), tmp_path / "north"
    folder.mkdir()
    create_node_key(folder / "north.key", "north").rename(folder / "kept")
    (folder / "north.key").unlink()
    (folder / "kept").rename(folder / "north.key.pub")
    assert "Move it away to make a new key pair" in refuse(path, folder, ConfigurationError)
    assert door.asked == 0


def test_a_site_comes_back_with_its_settings_and_a_new_key(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "north"
    join_federation(door.invite(tmp_path), folder, None, NOW)
    text = (folder / "site.toml").read_text().replace('device = "auto"', 'device = "cpu"  # no GPU here')
    (folder / "site.toml").write_text(text)
    for name in ("north.key", "north.key.pub"):
        (folder / name).rename(folder / f"old-{name}")
    monkeypatch.chdir(folder)
    joined = join_federation(door.invite(tmp_path, replace=True), None, None, NOW)
    assert joined.site_file == Path("site.toml"), "the current folder is a site's"
    assert not joined.made
    assert (folder / "site.toml").read_text() == text
    assert read_public_key(door.home / "sites" / "north.pub") == read_public_key(folder / "north.key.pub")


class TestWhatIsWrongWithTheFile:
    @pytest.mark.parametrize(
        "content", ["", "not toml at all [", 'name = "north"\n', "\x00\x01", 'release = "0.1.0"\nname = 3\n']
    )
    def test_no_join_file(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "x.join").write_text(content)
        assert "not a join file, or it is damaged. Ask the coordinator" in refuse(
            tmp_path / "x.join", tmp_path / "north", ConfigurationError
        )
        assert not (tmp_path / "north").exists()

    def test_no_file_and_no_text(self, tmp_path: Path) -> None:
        assert "Cannot read" in refuse(tmp_path / "x.join", None, ConfigurationError)
        (tmp_path / "x.join").write_bytes(b"\xff\xfe")
        assert "not a text file" in refuse(tmp_path / "x.join", None, ConfigurationError)

    @pytest.mark.parametrize(
        ("old", "new"), [("BEGIN CERT", "BEGIN"), ("address =", "adress ="), ("\ncode", "\n#code")]
    )
    def test_one_that_is_damaged(self, door: Door, tmp_path: Path, old: str, new: str) -> None:
        path = door.invite(tmp_path)
        path.write_text(path.read_text().replace(old, new))
        assert "damaged" in refuse(path, tmp_path / "north", ConfigurationError)
        assert door.asked == 0

    def test_one_of_another_release(self, door: Door, tmp_path: Path) -> None:
        path = door.invite(tmp_path)
        path.write_text(path.read_text().replace('release = "', 'release = "9.') + "more = 1\n")
        said = refuse(path, tmp_path / "north", ConfigurationError)
        assert "The coordinator runs prostafed '9." in said
        assert "Install the coordinator's release here" in said

    def test_one_that_has_ended(self, door: Door, tmp_path: Path) -> None:
        path = door.invite(tmp_path)
        later = NOW + timedelta(days=7, seconds=1)
        said = refuse(path, tmp_path / "north", ConfigurationError, now=later)
        assert f"The invitation ended on {NOW + timedelta(days=7):%Y-%m-%d}" in said
        assert f"This machine's clock says {later:%Y-%m-%d %H:%M} UTC." in said
        assert "prostafed-server invite north" in said
        assert door.asked == 0
        assert not (tmp_path / "north").exists()

    def test_an_authority_that_is_over_or_none(self, door: Door, tmp_path: Path) -> None:
        path = door.invite(tmp_path)
        said = refuse(path, tmp_path / "north", ConfigurationError, now=NOW - timedelta(days=1))
        assert "Set the clock, or ask" in said
        pki = Pki(door.home / "pki")
        text = path.read_text().replace(pki.ca_certificate.read_text(), pki.server_certificate.read_text())
        path.write_text(text)
        assert "another join file" in refuse(path, tmp_path / "north", ConfigurationError)

    def test_one_for_another_site(self, door: Door, tmp_path: Path) -> None:
        folder = tmp_path / "north"
        join_federation(door.invite(tmp_path), folder, None, NOW)
        said = refuse(door.invite(tmp_path, "south"), folder, ConfigurationError)
        assert "is the site north" in said
        assert door.asked == 1


class TestWhatIsWrongOnTheWay:
    def test_a_code_that_was_used(self, door: Door, tmp_path: Path) -> None:
        path = door.invite(tmp_path)
        join_federation(path, tmp_path / "north", None, NOW)
        said = refuse(path, tmp_path / "stolen")
        assert "used with another key, has ended, or" in said
        assert "prostafed-server invite north" in said
        text = (tmp_path / "stolen" / "site.toml").read_text()
        assert "\n[server]" not in text
        assert not (tmp_path / "stolen" / "ca.crt").exists()

    @pytest.mark.parametrize(
        ("status", "content", "expected"),
        [
            (404, b"", "does not take invitations (status 404)"), (500, b"<b>", "status 500"),
            (200, b"hello", "status 200"), (200, b'{"name":"south"}', "status 200"),
            (200, b"x" * 100_000, "status 200"),
            (429, b"", "Wait a minute"), (302, b"", "status 302"), (500, b'{"name":"north"}', "status 500"),
        ],
    )  # fmt: skip
    def test_an_answer_that_is_none(
        self, door: Door, tmp_path: Path, status: int, content: bytes, expected: str
    ) -> None:
        door.answer = lambda *said: (status, content)
        path = door.invite(tmp_path)
        assert expected in refuse(path, tmp_path / "north")
        door.answer = lambda *said: said
        join_federation(path, tmp_path / "north", None, NOW)

    def test_another_authority_is_sent_nothing(self, door: Door, tmp_path: Path) -> None:
        path = door.invite(tmp_path)
        other = create_pki(tmp_path / "other")
        own = Pki(door.home / "pki").ca_certificate.read_text()
        path.write_text(path.read_text().replace(own, other.ca_certificate.read_text()))
        said = refuse(path, tmp_path / "north")
        assert "was signed by another authority" in said
        assert "--proxy-ca FILE" in said
        assert door.asked == 0

    def test_a_proxy_that_opens_tls(self, door: Door, tmp_path: Path) -> None:
        """Its authority is added to ca.crt, beside the coordinator's own."""
        proxy = create_pki(tmp_path / "proxy")
        with serving(door, proxy) as door.port:
            path, folder = door.invite(tmp_path), tmp_path / "north"
            assert "--proxy-ca" in refuse(path, folder)
            join_federation(path, folder, proxy.ca_certificate, NOW)
            with httpx.Client(verify=str(folder / "ca.crt")) as client:
                client.post(f"https://localhost:{door.port}/v1/join")
        with serving(door, Pki(door.home / "pki")) as port, httpx.Client(verify=str(folder / "ca.crt")) as client:
            client.post(f"https://localhost:{port}/v1/join")
        (tmp_path / "none.pem").write_text("none")
        said = refuse(path, folder, ConfigurationError, proxy_ca=tmp_path / "none.pem")
        assert "no certificate in PEM form" in said

    def test_a_name_that_is_not_in_the_certificate(
        self, door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = door.invite(tmp_path)
        path.write_text(path.read_text().replace('"localhost:', '"ip6-localhost:'))
        connect = socket.create_connection
        monkeypatch.setattr(
            socket, "create_connection", lambda at, *rest, **more: connect(("127.0.0.1", at[1]), *rest, **more)
        )
        assert "is for another host name" in refuse(path, tmp_path / "north")
        assert door.asked == 0

    def test_a_certificate_that_has_expired(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("prostafed.server.link.pki._SERVER_DAYS", 0)
        door = Door(tmp_path / "home")
        with serving(door, Pki(door.home / "pki")) as door.port:
            said = refuse(door.invite(tmp_path), tmp_path / "north")
        assert "has expired. This machine's clock says" in said

    def test_no_name_no_listener_no_tls_no_answer(
        self, door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, own = door.invite(tmp_path), f'"localhost:{door.port}"'
        text = path.read_text()

        def at(address: str) -> str:
            path.write_text(text.replace(own, json.dumps(address)))
            return refuse(path, tmp_path / "north")

        assert "The name of nowhere.invalid:8000 is not known here. Ask IT" in at("nowhere.invalid:8000")
        with socket.create_server(("127.0.0.1", 0)) as silent:
            monkeypatch.setattr(enrolment, "TIMEOUT_S", 0.2)
            assert "did not answer within 0 s" in at(f"127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(enrolment, "TIMEOUT_S", 3.0)
        with socket.create_server(("127.0.0.1", 0)) as plain:
            thread = threading.Thread(target=_speak_plainly, args=(plain,))
            thread.start()
            port = plain.getsockname()[1]
            assert "does not speak TLS" in at(f"127.0.0.1:{port}")
            thread.join()
        assert "Nothing listens at" in at(f"127.0.0.1:{port}")
        with monkeypatch.context() as patched:
            patched.setattr(socket, "create_connection", _find_no_way)
            assert "There is no way from this machine to 127.0.0.1:" in at(f"127.0.0.1:{port}")
        assert door.asked == 0

    def test_a_proxy_that_lets_nobody_through(
        self, door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = door.invite(tmp_path)
        with socket.create_server(("127.0.0.1", 0)) as proxy:
            thread = threading.Thread(
                target=_speak_plainly, args=(proxy, b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            )
            thread.start()
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{proxy.getsockname()[1]}")
            said = refuse(path, tmp_path / "north")
            thread.join()
        assert "HTTPS_PROXY does not let this machine through" in said
        assert "407" in said
        assert "secret" not in said
        monkeypatch.setenv("HTTPS_PROXY", "gopher://x")
        assert "none that can be used" in refuse(path, tmp_path / "north", ConfigurationError)

    def test_a_proxy_with_a_login(self, door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        logins: list[bool] = []

        def check_and_relay(connection: socket.socket) -> None:
            login = b64encode(b"me:secret")
            logins.append(b"Proxy-Authorization: Basic " + login in connection.recv(4096, socket.MSG_PEEK))
            relay(connection)

        path = door.invite(tmp_path)
        with listening(check_and_relay) as port:
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@localhost:{port}")
            join_federation(path, tmp_path / "north", None, NOW)
        assert logins == [True]
        assert door.asked == 1

    @pytest.mark.parametrize(
        ("minutes", "expected"), [(-12, "12 minutes ahead of the coordinator's"), (200, "3 hours behind"), (0, "")]
    )
    def test_a_clock_that_the_coordinator_would_refuse(self, tmp_path: Path, minutes: float, expected: str) -> None:
        door = Door(tmp_path / "home")
        door.date = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
        with serving(door, Pki(door.home / "pki")) as door.port:
            joined = join_federation(door.invite(tmp_path), tmp_path / "north", None, NOW)
        assert expected in joined.warning
        assert bool(joined.warning) is bool(expected)


def test_the_clock_by_hand() -> None:
    at = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
    assert read_skew_s("Sun, 01 Mar 2026 11:58:30 GMT", at) == 90
    assert [read_skew_s(date, at) for date in ("", "yesterday", "Sun, 99 Mar")] == [0, 0, 0]
    assert say_skew(4) == say_skew(-299) == ""
    assert say_skew(90).startswith("This machine's clock is 90 seconds ahead of")
    assert say_skew(-3 * 86400).startswith("This machine's clock is 3 days behind")


def _find_no_way(*_: object, **__: object) -> socket.socket:
    raise OSError(errno.EHOSTUNREACH, "No route to host")


def _speak_plainly(listener: socket.socket, said: bytes = b"HTTP/1.1 400 Bad Request\r\n\r\n") -> None:
    connection, _ = listener.accept()
    with connection, suppress(OSError):
        connection.recv(4096)
        connection.sendall(said)
        connection.recv(4096)
