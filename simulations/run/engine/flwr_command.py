"""Flower's `flwr` command towards one SuperLink: submit a run, ask for its status, read its log."""

import json
import re
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prostafed.common.errors import RoundError
from prostafed.common.shell.files import make_folder, write_text
from prostafed.common.shell.processes import Child, require_alive
from prostafed.simulations.run.engine.flower_programs import find_program, flower_environment

_NAME = "prostafed"  # of the connection, in Flower's configuration file
_ANSWER_S = 60.0  # deadline of one `flwr` command
_EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception)\b.*$", re.MULTILINE)


@dataclass(frozen=True)
class Connection:
    """Where a SuperLink answers, and Flower's settings folder that says so to `flwr`."""

    flower_home: Path
    address: str  # host:port
    authority: Path | None  # certificate of the CA; None = plain HTTP, loopback only


def write_connection(connection: Connection) -> None:
    """Write Flower's configuration file: the one connection there is, so that no other SuperLink can be meant."""
    make_folder(connection.flower_home)
    authority = connection.authority
    trust = f"root-certificates = {json.dumps(str(authority))}" if authority else "insecure = true"
    write_text(
        connection.flower_home / "config.toml",
        f'[superlink]\ndefault = "{_NAME}"\n\n[superlink.{_NAME}]\naddress = "{connection.address}"\n{trust}\n',
    )


def wait_until_healthy(connection: Connection, started: Sequence[Child], deadline_s: float = 60.0) -> None:
    """Return once the SuperLink answers; raises RoundError if a child ends or the deadline passes first."""
    context = ssl.create_default_context(cafile=str(connection.authority)) if connection.authority else None
    url = f"{'https' if context else 'http'}://{connection.address}/health"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    deadline = time.monotonic() + deadline_s
    while True:
        require_alive(started)
        try:
            with direct.open(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError as error:
            reason = error
        if time.monotonic() > deadline:
            raise RoundError(f"The SuperLink did not answer at {url} within {deadline_s:.0f} s: {reason}.")
        time.sleep(0.2)


def submit(connection: Connection, bundle: Path, values: Mapping[str, str], federation: str = "") -> str:
    """Submit a run of `bundle` with these run config `values` and return its id at the SuperLink.

    `federation` is Flower's federation configuration, for its simulation runtime only.
    """
    configuration = bundle / "run.toml"
    write_text(configuration, "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    options = ["--federation-config", federation] if federation else []
    return str(_ask(connection, "run", bundle, _NAME, "--run-config", configuration, *options)["run-id"])


def read_status(connection: Connection, run_id: str) -> tuple[str, str]:
    """Return the status of a run at the SuperLink ("running", "finished:failed", ...) and its details."""
    (run,) = _ask(connection, "list", _NAME, "--run-id", run_id)["runs"]
    return str(run["status"]), str(run["status-details"])


def read_log(connection: Connection, run_id: str) -> str:
    """Return what the ServerApp (in a simulation: everything) has logged so far."""
    return _run(connection, "log", run_id, _NAME, "--show").stdout


def find_end(connection: Connection, run_id: str) -> str:
    """Return why a run is over, "" while it goes on."""
    status, details = read_status(connection, run_id)
    return (find_cause(read_log(connection, run_id)) or f"{status}: {details}") if status.startswith("finished") else ""


def find_cause(log: str) -> str:
    """Return the line that says why a run ended, "" where none does.

    Flower logs the exception that ended the app last; in its chain of tracebacks the first cause stands first.
    """
    cause = _EXCEPTION.search(log[max(log.rfind("raised an exception"), 0) :])
    return cause[0] if cause else ""


def _ask(connection: Connection, *arguments: str | Path) -> dict[str, Any]:
    """Return the JSON object `flwr` answers; raises RoundError with its own words where that is not a success.

    Its exit code is not asked: a failed `flwr run` was seen to exit 0.
    """
    finished = _run(connection, *arguments, "--format", "json")
    try:
        answer = dict(json.loads(finished.stdout[finished.stdout.index("{") :]))
    except ValueError:
        answer = {}
    if not answer.get("success"):
        said = str(answer.get("error-message") or finished.stdout + finished.stderr).strip().split("\n\n")[-1]
        raise RoundError(f"`flwr {arguments[0]}` failed at the SuperLink {connection.address}: {said}")
    return answer


def _run(connection: Connection, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [str(find_program("flwr")), *map(str, arguments)]
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=_ANSWER_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env=flower_environment(connection.flower_home),
            cwd=connection.flower_home,
        )
    except subprocess.TimeoutExpired as error:
        asked = f"`flwr {arguments[0]}`"
        raise RoundError(f"{connection.address} gave no answer to {asked} within {_ANSWER_S:.0f} s.") from error
