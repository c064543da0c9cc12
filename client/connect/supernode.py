"""The hospital's SuperNode: it asks the coordinator for work, over TLS and with the site's key, and opens no port.

Two programs run: the SuperNode, which talks to the coordinator, and the SuperExec, which starts the site's ClientApp
for each message. They meet at a port on loopback that only the holder of this start's secret can use. The bundle that
names the ClientApp comes from the coordinator, and Flower would also run code a bundle brings: serve a coordinator you
trust.
"""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.files import scratch_folder, write_text
from prostafed.common.shell.flower_programs import find_program, flower_environment
from prostafed.common.shell.processes import (
    LOOPBACK,
    Child,
    children,
    find_free_port,
    interrupted_by_sigterm,
    require_alive,
    start_child,
)

_ACCEPTED = "SuperNode ID:"  # what the SuperNode logs once the coordinator has accepted it
_REFUSED = "Failed to activate SuperNode"


def start_node(
    site_file: Path, superlink: str, root_certificates: Path, key: Path, *, on_ready: Callable[[], None] | None = None
) -> None:
    """Run the site in the foreground until SIGTERM or Ctrl-C; `on_ready` is called once the coordinator accepted it.

    `superlink` is the coordinator's host:port, `root_certificates` its ca.crt, `key` the site's private key. Logs are
    written beside the site file, in logs/. An absent coordinator is waited for. Raises ConfigurationError for a missing
    file or a key that is not enrolled, RoundError if a program ends by itself.
    """
    site_file = site_file.resolve()
    for path in (site_file, root_certificates, key):
        if not path.is_file():
            raise ConfigurationError(f"The file {path} does not exist. Check the path.")
    if "'" in str(site_file):
        raise ConfigurationError(
            f"The path {site_file} holds an apostrophe, which Flower cannot take. Rename the folder."
        )
    log = site_file.parent / "logs" / "supernode.log"
    with scratch_folder() as scratch, suppress(KeyboardInterrupt), interrupted_by_sigterm(), children() as started:
        written = log.stat().st_size if log.exists() else 0
        authority, folder = root_certificates.resolve(), Path(scratch)
        _start_programs(site_file, superlink, authority, key=key.resolve(), scratch=folder, started=started)
        ready = False
        while True:
            if started[0].process.poll() is not None and _said(log, written, _REFUSED):
                raise ConfigurationError(
                    f"The coordinator {superlink} refused the key {key}. Ask it to enrol {key}.pub; if it has, this "
                    "site may still count as connected from before: start again after a minute."
                )
            require_alive(started)
            if not ready and _said(log, written, _ACCEPTED):
                ready = True
                if on_ready:
                    on_ready()
            time.sleep(0.5)


def _start_programs(
    site_file: Path, superlink: str, root_certificates: Path, *, key: Path, scratch: Path, started: list[Child]
) -> None:
    runtime = f"{LOOPBACK}:{find_free_port()}"
    secret = scratch / "secret"
    write_text(secret, secrets.token_hex(32))  # in a folder only its owner can read
    common: list[str | Path] = ["--superexec-auth-secret-file", secret]
    node: list[str | Path] = [find_program("flower-supernode"), *common, "--isolation", "process"]
    node += ["--superlink", superlink, "--root-certificates", root_certificates, "--auth-supernode-private-key", key]
    node += ["--host", LOOPBACK, "--port", runtime.partition(":")[2], "--node-config", f"site='{site_file}'"]
    executor: list[str | Path] = [find_program("flower-superexec"), *common, "--insecure"]
    executor += ["--runtime-api-address", runtime]
    environment = flower_environment(site_file.parent / ".flower")
    logs = site_file.parent / "logs"
    started.append(start_child("The SuperNode", node, logs / "supernode.log", environment, scratch))
    started.append(start_child("The SuperExec", executor, logs / "clientapp.log", environment, scratch))


def _said(log: Path, since: int, text: str) -> bool:
    with log.open("rb") as file:
        file.seek(since)
        return text.encode() in file.read()
