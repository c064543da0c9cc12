"""The coordinator's SuperLink: start it, enrol sites, run studies on it.

The server home holds everything: pki/, sites/ (public keys), state.db (Flower's), runs/ (results), logs/, flower/ (settings).

Flower's Control API, by which sites are registered and runs are started, has no authentication of its own in the open-source
release and answers on the port the hospitals use. The link therefore listens on loopback unless told otherwise. Hospitals reach
it through a reverse proxy that passes /v1/fleet/ and nothing else; never open this port to a network without one.
"""

import fcntl
import json
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prostafed.common.errors import ConfigurationError, RoundError
from prostafed.common.files import make_folder, write_json, write_text
from prostafed.common.keys import read_public_key, write_once
from prostafed.common.processes import (
    LOOPBACK,
    Child,
    children,
    find_program,
    flower_environment,
    interrupted_by_sigterm,
    require_alive,
    start_child,
)
from prostafed.server import control
from prostafed.server.bundle import write_bundle
from prostafed.server.control import Connection
from prostafed.server.pki import Pki, create_pki

HOME_VARIABLE = "PROSTAFED_SERVER_HOME"  # where the ServerApp finds runs/
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
        raise ConfigurationError(f"{pki.server_certificate} does not exist. Make the server's home first: prostafed-server init.")
    with (
        _only_one(home / "link.lock"),
        tempfile.TemporaryDirectory(prefix="pf-") as scratch,
        suppress(KeyboardInterrupt),
        interrupted_by_sigterm(),
        children() as started,
    ):
        # A wildcard is no address to call; Flower's SuperExec reaches the link by loopback too.
        address = f"{LOOPBACK if host in ('0.0.0.0', '::') else host}:{port}"
        connection = Connection(home / "flower", address, pki.ca_certificate)
        control.write_connection(connection)
        _start_programs(home, connection, host, port, Path(scratch), started)
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
            raise ConfigurationError(f"This key is enrolled already, as {enrolled.stem}. Each site needs a key of its own.")
    write_once(home / "sites" / f"{name}.pub", key + f" {name}\n".encode(), mode=0o644)
    if (home / "link.json").exists():
        _register_missing(home, _connect(home))


def submit_run(home: Path, study_json: str, run: str, sites_expected: int) -> str:
    """Submit a study to the running link and return Flower's id of the run; results appear in home/runs/`run`.

    A run of that name that ended early goes on where it stands. Raises ConfigurationError while one is going on.
    """
    connection, out = _connect(home), home.resolve() / "runs" / run
    submission = out / "submission.json"
    if submission.exists() and not (out / "state.json").exists():
        with suppress(RoundError):  # a link with a new database does not know the run any more
            status, _ = control.read_status(connection, _read(submission)["run_id"])
            if not status.startswith("finished"):
                raise ConfigurationError(f"A run named {run} is {status}. Follow it, stop it, or choose another name.")
    make_folder(out)
    (out / "state.json").unlink(missing_ok=True)  # it tells of the end of an earlier try
    with tempfile.TemporaryDirectory(prefix="pf-") as scratch:
        values = {"study": study_json, "run": run, "sites_expected": str(sites_expected)}
        run_id = control.submit(connection, write_bundle(Path(scratch) / "prostafed"), values)
    write_json(submission, {"run_id": run_id})
    return run_id


def follow_run(
    home: Path, run: str, on_round: Callable[[dict[str, Any]], None] | None = None, seen: tuple[str, ...] = ()
) -> None:
    """Report the rounds of a submitted run that are not in `seen` until it ends; leaving earlier does not stop it.

    Raises RoundError with the run's reason if it failed.
    """
    out = home.resolve() / "runs" / run
    if not (out / "submission.json").exists():
        raise ConfigurationError(f"No run named {run} was submitted from {home}.")
    control.follow(out, _connect(home), _read(out / "submission.json")["run_id"], on_round, seen=seen)


def run_study(
    home: Path,
    study_json: str,
    run: str,
    sites_expected: int,
    on_round: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Submit a study, report its rounds until it ends, and return the run's folder; raises as the two it is made of."""
    out = home.resolve() / "runs" / run
    seen = tuple(control.read_rounds(out))
    submit_run(home, study_json, run, sites_expected)
    follow_run(home, run, on_round, seen)
    return out


def stop_run(home: Path, run: str) -> None:
    """Ask the link to stop a run; sites may compute for some seconds more."""
    control.stop(_connect(home), _read(home / "runs" / run / "submission.json")["run_id"])


def _start_programs(
    home: Path, connection: Connection, host: str, port: int, scratch: Path, started: list[Child]
) -> None:
    """Start the SuperLink and the SuperExec that runs its ServerApps, and wait until the link answers.

    With `--isolation process` and a secret of this start, nobody but our SuperExec can take up a run.
    """
    pki = Pki(home / "pki")
    secret = scratch / "secret"
    secret.write_text(secrets.token_hex(32))  # in a folder only its owner can read
    common = ["--superexec-auth-secret-file", secret]
    link = [find_program("flower-superlink"), *common, "--host", host, "--port", str(port), "--isolation", "process"]
    link += ["--database", home / "state.db", "--enable-supernode-auth", "--disable-runtime-dependency-installation"]
    link += ["--ssl-ca-certfile", pki.ca_certificate]
    link += ["--ssl-certfile", pki.server_certificate, "--ssl-keyfile", pki.server_key]
    executor = [find_program("flower-superexec"), *common, "--runtime-api-address", connection.address]
    executor += ["--root-certificates", pki.ca_certificate]
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


def _connect(home: Path) -> Connection:
    if not (home / "link.json").exists():
        raise ConfigurationError(f"No link runs on {home}. Start it: prostafed-server start.")
    return Connection(home.resolve() / "flower", _read(home / "link.json")["address"], Pki(home.resolve() / "pki").ca_certificate)


def _read(path: Path) -> dict[str, str]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Hold `lock`, which the system releases however this process ends: two links would share one database."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(f"A link already runs on {lock.parent}. Stop it first.") from error
        yield
