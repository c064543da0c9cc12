"""The coordinator's SuperLink: make its home, start it, enrol sites. `submission.py` runs studies on it.

A server home holds pki/, sites/ (public keys), state.db (Flower's), runs/ (results), logs/ and flower/ (settings).

Flower's Control API, by which sites are registered and runs are started, has no authentication of its own in the
open-source release and answers on the port the hospitals use. The link therefore listens on loopback unless told
otherwise. Hospitals reach it through a reverse proxy that passes /v1/fleet/ and nothing else; never open this port to a
network without one.
"""

import json
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.files import holding, make_folder, scratch_folder, write_json, write_text
from prostafed.common.shell.flower_programs import find_program, flower_environment
from prostafed.common.shell.keys import read_public_key, write_once
from prostafed.common.shell.processes import (
    LOOPBACK,
    Child,
    children,
    interrupted_by_sigterm,
    require_alive,
    start_child,
)
from prostafed.server.link import control
from prostafed.server.link.app_bundle import HOME_VARIABLE
from prostafed.server.link.control import Connection
from prostafed.server.link.pki import Pki, create_pki

_SITE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")


def create_home(home: Path, hosts: tuple[str, ...] = ()) -> Pki:
    """Make a server home that only its owner can read, with keys and certificates for `hosts`."""
    make_folder(home).chmod(0o700)
    return create_pki(home / "pki", hosts)


def start_link(
    home: Path, host: str = LOOPBACK, port: int = 8000, on_ready: Callable[[str], None] | None = None
) -> None:
    """Run the SuperLink in the foreground until SIGTERM or Ctrl-C; `on_ready` gets its address once it answers.

    Raises ConfigurationError if the home has no certificates or a link already, RoundError if a program ends by itself.
    """
    home = home.resolve()
    pki = Pki(home / "pki")
    if not pki.server_certificate.exists():
        raise ConfigurationError(f"{home} holds no certificates. Make it a server's home first: prostafed-server init.")
    with (
        holding(home / "link.lock") as ours,  # two links would share one database
        scratch_folder() as scratch,
        suppress(KeyboardInterrupt),
        interrupted_by_sigterm(),
        children() as started,
    ):
        if not ours:
            raise ConfigurationError(f"A link already runs on {home}. Stop it first.")
        # A wildcard is no address to call; Flower's SuperExec reaches the link by loopback too.
        address = f"{LOOPBACK if host in ('0.0.0.0', '::') else host}:{port}"
        connection = Connection(home / "flower", address, pki.ca_certificate)
        control.write_connection(connection)
        _start_programs(home, connection, host=host, port=port, scratch=scratch, started=started)
        _register_missing(home, connection)
        write_json(home / "link.json", {"address": address})
        try:
            if on_ready:
                on_ready(address)
            while True:
                require_alive(started)
                time.sleep(0.5)
        finally:
            (home / "link.json").unlink(missing_ok=True)


def enrol_site(home: Path, name: str, public_key: Path) -> None:
    """Let the site with this public key take part; a link that runs knows it at once, another when it starts.

    Raises ConfigurationError for a name that is taken or no name, or a file that is not an ECDSA P-384 public key.
    """
    if not _SITE_NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is not a site name: up to 41 lower-case letters, digits and hyphens.")
    key = read_public_key(public_key)
    for enrolled in (home / "sites").glob("*.pub"):
        if read_public_key(enrolled) == key:
            raise ConfigurationError(
                f"This key is enrolled already, as {enrolled.stem}. Each site needs a key of its own."
            )
    write_once(home / "sites" / f"{name}.pub", key + f" {name}\n".encode(), mode=0o644)
    if (home / "link.json").exists():
        _register_missing(home, connect(home))


def connect(home: Path) -> Connection:
    """Return where the link that runs on `home` answers; raises ConfigurationError if none does."""
    home = home.resolve()
    try:
        address = json.loads((home / "link.json").read_text(encoding="utf-8"))["address"]
    except FileNotFoundError as error:
        raise ConfigurationError(f"No link runs on {home}. Start it: prostafed-server start.") from error
    return Connection(home / "flower", address, Pki(home / "pki").ca_certificate)


def _start_programs(
    home: Path, connection: Connection, *, host: str, port: int, scratch: Path, started: list[Child]
) -> None:
    """Start the SuperLink and the SuperExec that runs its ServerApps, and wait until the link answers.

    With `--isolation process` and a secret of this start, nobody but our SuperExec can take up a run.
    """
    pki = Pki(home / "pki")
    secret = scratch / "secret"
    write_text(secret, secrets.token_hex(32))  # in a folder only its owner can read
    common: list[str | Path] = ["--superexec-auth-secret-file", secret]
    link: list[str | Path] = [find_program("flower-superlink"), *common, "--isolation", "process"]
    link += ["--host", host, "--port", str(port), "--database", home / "state.db"]
    link += ["--enable-supernode-auth", "--disable-runtime-dependency-installation"]
    link += ["--ssl-ca-certfile", pki.ca_certificate]
    link += ["--ssl-certfile", pki.server_certificate, "--ssl-keyfile", pki.server_key]
    executor: list[str | Path] = [find_program("flower-superexec"), *common]
    executor += ["--runtime-api-address", connection.address, "--root-certificates", pki.ca_certificate]
    environment = flower_environment(connection.flower_home, **{HOME_VARIABLE: str(home)})
    started.append(start_child("The SuperLink", link, home / "logs" / "superlink.log", environment, scratch))
    control.wait_until_healthy(connection, started)
    started.append(start_child("The SuperExec", executor, home / "logs" / "superexec.log", environment, scratch))


def _register_missing(home: Path, connection: Connection) -> None:
    """Register each enrolled site the link does not know: new ones, or all of them where its database was lost."""
    keys = sorted((home / "sites").glob("*.pub"))
    known = control.list_node_ids(connection) if keys else set()
    for key in keys:
        node = key.with_suffix(".node")
        if not node.exists() or node.read_text() not in known:
            write_text(node, control.register_node(connection, key.stem, key))
