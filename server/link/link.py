"""The coordinator's link, one process: Flower's SuperLink, the door to the sites, the control socket, the runs.

A server home holds pki/, sites/ (public keys), runs/ (results), logs/, door.jsonl (who was refused) and, while a link
runs, link.json (where it answers).
"""

import logging
import re
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prostafed.common.errors import ConfigurationError, JoinError, ProstafedError, RoundError
from prostafed.common.exchange.app_bundle import bundle_hash
from prostafed.common.shell.chained_file import ChainedFile
from prostafed.common.shell.files import holding, make_folder, scratch_folder, write_json
from prostafed.common.shell.keys import read_public_key, write_once
from prostafed.common.shell.logs import logging_to
from prostafed.common.shell.processes import LOOPBACK, children, interrupted_by_sigterm
from prostafed.server.link.control import Control
from prostafed.server.link.door import Answer, Door, RefusedError
from prostafed.server.link.home import AUDIT, FILE, LEAST_FREE_GB, LOCK, LOG, ask_link, is_running
from prostafed.server.link.invitations import redeem
from prostafed.server.link.pki import Pki, create_pki, describe_certificates, load_tls, reload_tls, renew_if_due
from prostafed.server.link.runs import Order, Runs
from prostafed.server.link.serving import Listener, Serving, listen, listen_here
from prostafed.server.link.superlink import SuperLink

logger = logging.getLogger("prostafed.server")
SITE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
_QUIET_S, _MOST_A_MINUTE = 60.0, 200  # what the door's audit holds of a flood
_LOOK_EVERY_S, _RENEW_EVERY_S = 0.2, 3600.0
_FIT_S = 5.0  # so long what a monitor was told is told again


def create_home(home: Path, hosts: tuple[str, ...] = ()) -> Pki:
    """Make a server home that only its owner can read, with keys and certificates for `hosts`."""
    make_folder(home).chmod(0o700)
    return create_pki(home / "pki", hosts)


@dataclass(frozen=True)
class Listening:
    """Where the link listens. `host` "" stands for every address of the machine. Behind a proxy that ends TLS the door
    speaks plain HTTP, on loopback only.
    """

    host: str = ""
    port: int = 8000
    behind_proxy: bool = False

    @property
    def address(self) -> str:
        """Where a program on this machine finds the door."""
        host = LOOPBACK if self.behind_proxy or not self.host else self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def start_link(home: Path, where: Listening = Listening(), on_ready: Callable[[str], None] | None = None) -> None:
    """Run the link in the foreground until SIGTERM or Ctrl-C; `on_ready` gets its address once it answers.

    Raises ConfigurationError if the home has no certificates or a link already, or the port is taken; RoundError if a
    server ends by itself.
    """
    with suppress(KeyboardInterrupt), interrupted_by_sigterm(), open_link(home, where) as link:
        link.runs.go_on()
        if on_ready:
            on_ready(where.address)
        renewed = -_RENEW_EVERY_S
        while link.serving.alive:
            link.runs.tend()
            if time.monotonic() - renewed > _RENEW_EVERY_S:
                renewed = time.monotonic()
                link.renew(datetime.now(UTC))
            time.sleep(_LOOK_EVERY_S)
        raise RoundError(f"The link's servers ended. Its log says why: {link.home / LOG}.")


@contextmanager
def open_link(home: Path, where: Listening) -> Iterator["Link"]:
    """Yield a link that listens, and end it; raises ConfigurationError as `start_link`."""
    home = home.resolve()
    pki = Pki(home / "pki")
    if not pki.server_certificate.exists():
        raise ConfigurationError(f"{home} holds no certificates. Make it a server's home first: prostafed-server init.")
    with holding(home / LOCK) as ours, scratch_folder() as scratch:
        if not ours:
            raise ConfigurationError(f"A link already runs on {home}. Stop it first.")
        public = listen(LOOPBACK if where.behind_proxy else where.host, where.port)
        with logging_to(make_folder(home / "logs") / LOG.name), children(grace_s=2.0) as started:
            superlink = SuperLink()
            runs = Runs(home, superlink, scratch / "control", scratch, started)
            tls = None if where.behind_proxy else load_tls(pki)
            link = Link(home, superlink, runs, Audit(home / AUDIT), public, tls)
            write_json(home / FILE, {"address": where.address, "control": str(runs.socket)})
            try:
                yield link
            finally:
                (home / FILE).unlink(missing_ok=True)
                runs.end()
                link.serving.close()
                public.close()


@dataclass
class Audit:
    """door.jsonl: who was refused at the door and why, and who was let in; each line holds the hash of the last."""

    path: Path
    _file: ChainedFile = field(init=False)
    _said: dict[tuple[str, str, str], float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._file = ChainedFile(self.path)

    def note(self, client: str, asked: str, why: str) -> None:
        """Write that `client` was refused what it asked; the same again is written once a minute, and of a flood the
        beginning.
        """
        now = time.monotonic()
        with self._lock:
            self._said = {key: when for key, when in self._said.items() if now - when < _QUIET_S}
            if (client, asked, why) in self._said or len(self._said) > _MOST_A_MINUTE:
                return
            self._said[client, asked, why] = now
        self.add("refused", client=client, asked=asked, why=why)

    def add(self, event: str, **facts: str) -> None:
        """Write a line."""
        with self._lock:
            self._file.add({"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **facts})


class Link:
    """A link that listens: what the door and the control socket ask for."""

    def __init__(
        self,
        home: Path,
        superlink: SuperLink,
        runs: Runs,
        audit: Audit,
        public: socket.socket,
        tls: ssl.SSLContext | None,  # None: a proxy ends it
    ) -> None:
        self.home, self.superlink, self.runs, self.audit, self._tls = home, superlink, runs, audit, tls
        self._bundle = bundle_hash()  # of the release that runs, whatever is installed meanwhile
        self._fit, self._looked, self._looking = True, -_FIT_S, threading.Lock()
        for key in sorted((home / "sites").glob("*.pub")):
            superlink.register(key.stem, key.read_bytes())
        self.door = Door(superlink, self.join, self.tell_health, audit.note)
        control = Control(self.commands(), superlink.app, self.door.tell_news)
        self.serving = Serving(
            [
                Listener(self.door, public, tls, guarded=True, behind_proxy=tls is None),
                Listener(control, listen_here(runs.socket)),
            ]
        )

    def join(self, body: bytes, client: str) -> Answer:
        """Answer a site that joins with an invitation."""
        try:
            answer = redeem(self.home, body, datetime.now(UTC), self._let_in)
        except JoinError as error:
            raise RefusedError(403, f"join: {error.reason}", str(error)) from error
        except ProstafedError as error:
            raise RefusedError(500, f"join: {error}", "The coordinator could not take the key. Ask it.") from error
        return Answer(200, answer, b"application/json")

    def _let_in(self, name: str, public_key: bytes) -> None:
        """Make a key the only one of its name."""
        path = self.home / "sites" / f"{name}.pub"
        if path.exists() and read_public_key(path) != public_key:
            set_aside(path)
            self.revoke(name)
        if not path.exists():
            store_key(self.home, name, public_key)
        self.enrol(name, public_key)

    def renew(self, now: datetime) -> None:
        """Renew the server certificate where it is due, and show to new connections the one that is there."""
        pki = Pki(self.home / "pki")
        try:
            if renew_if_due(pki, now):
                self.audit.add("renewed", until=str(describe_certificates(pki, now).server_until))
            if self._tls:
                reload_tls(self._tls, pki)
        except ProstafedError as error:  # the link goes on with what it has; `prostafed-server status` says so as well
            logger.warning("%s", error)

    def tell_health(self) -> Answer:
        """Answer whoever asks, of the outside: nothing but whether sites can be served."""
        with self._looking:
            if time.monotonic() - self._looked > _FIT_S:
                self._fit, self._looked = self._is_fit(), time.monotonic()
        status, word = (200, b"ok") if self._fit else (503, b"unavailable")
        return Answer(status, b'{"status": "%s"}\n' % word, b"application/json")

    def _is_fit(self) -> bool:
        try:
            enough = shutil.disk_usage(self.home).free > LEAST_FREE_GB * 1e9
            return enough and self.runs.are_tended()
        except OSError:
            return False

    def enrol(self, name: str, public_key: bytes) -> None:
        """Let a site take part from now on."""
        self.superlink.register(name, public_key)
        self.audit.add("enrolled", site=name)

    def revoke(self, name: str) -> None:
        """Let nobody act under this name any more."""
        self.superlink.unregister(name)
        self.serving.loop.call_soon_threadsafe(self.door.tell_news)  # what it is held for ends now
        self.audit.add("revoked", site=name)

    def commands(self) -> dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
        """Return what commands on this machine can have the link do."""

        def enrol(given: Mapping[str, Any]) -> Mapping[str, Any]:
            self.enrol(given["name"], (self.home / "sites" / f"{given['name']}.pub").read_bytes())
            return {}

        def revoke(given: Mapping[str, Any]) -> Mapping[str, Any]:
            self.revoke(given["name"])
            return {}

        def begin(given: Mapping[str, Any]) -> Mapping[str, Any]:
            self.runs.begin(Order(**given))
            return {}

        def stop(given: Mapping[str, Any]) -> Mapping[str, Any]:
            self.runs.stop(given["name"])
            return {}

        return {"enrol": enrol, "revoke": revoke, "begin": begin, "stop": stop, "status": lambda given: self.status()}

    def status(self) -> dict[str, Any]:
        """Return who is there and what goes on, for `prostafed-server status`."""
        seen = self.door.seen
        sites = [{**vars(node), "seen": seen.get(node.name, "")} for node in self.superlink.list_nodes()]
        fit = self.tell_health().status == 200
        runs, ended = self.runs.names(), self.runs.unsaid
        return {"sites": sites, "runs": runs, "ended": ended, "bundle": self._bundle, "fit": fit}


def enrol_site(home: Path, name: str, public_key: Path) -> None:
    """Let the site with this public key take part; a link that runs knows it at once, another when it starts.

    Raises ConfigurationError for a name that is taken or no name, or a file that is not an ECDSA P-384 public key.
    """
    store_key(home, name, read_public_key(public_key))
    if is_running(home):
        ask_link(home, "enrol", name=name)


def store_key(home: Path, name: str, key: bytes) -> None:
    """Keep a site's public key, an OpenSSH line without comment, under its name; raises ConfigurationError for a name
    that is taken or no name, or a key that is enrolled.
    """
    if not SITE_NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is not a site name: up to 41 lower-case letters, digits and hyphens.")
    for enrolled in (home / "sites").glob("*.pub"):
        if read_public_key(enrolled) == key:
            raise ConfigurationError(
                f"This key is enrolled already, as {enrolled.stem}. Each site needs a key of its own."
            )
    write_once(home / "sites" / f"{name}.pub", key + f" {name}\n".encode(), mode=0o644)


def revoke_site(home: Path, name: str) -> None:
    """Let nobody act under a site's name any more; raises ConfigurationError where none is enrolled under it."""
    key = home / "sites" / f"{name}.pub"
    if not SITE_NAME.fullmatch(name) or not key.exists():
        enrolled = ", ".join(sorted(path.stem for path in (home / "sites").glob("*.pub"))) or "none"
        raise ConfigurationError(f"No site is enrolled as {name!r}. Enrolled: {enrolled}.")
    set_aside(key)
    if is_running(home):
        ask_link(home, "revoke", name=name)


def set_aside(key: Path) -> None:
    """Keep a public key that is enrolled no more."""
    key.rename(make_folder(key.parent / "revoked") / f"{key.stem}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z.pub")
