"""The federation on Flower's simulation runtime: one Ray actor per site at work, over several GPUs or machines.

A SuperLink of our own is started for the run and ended with it: Flower would share one lingering SuperLink between all
users of the machine. Ours listens on loopback, unencrypted, while the run lasts: whoever has a login on this machine
could submit runs to it, so simulate on machines whose users you trust.
"""

import importlib.util
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prostafed.common.errors import ConfigurationError, RoundError
from prostafed.common.shell.files import make_folder, make_scratch, write_text
from prostafed.common.shell.processes import (
    LOOPBACK,
    Child,
    children,
    find_free_port,
    interrupted_by_sigterm,
    start_child,
)
from prostafed.server.link.following import follow, read_rounds
from prostafed.server.records.lines import RoundLine
from prostafed.simulations.run.engine.flower_bundle import write_bundle
from prostafed.simulations.run.engine.flower_programs import find_program, flower_environment
from prostafed.simulations.run.engine.flwr_command import (
    Connection,
    find_end,
    read_log,
    submit,
    wait_until_healthy,
    write_connection,
)

_ASK_EVERY_S = 15.0  # each question starts an interpreter, which costs the sites a second of a core


@dataclass(frozen=True)
class Resources:
    """What one emulated site may use; Ray runs as many sites at a time as the machine or its cluster then holds."""

    cpus_per_site: int = 1
    gpus_per_site: float = 0.0  # a fraction lets several sites share a GPU; 1.0 on 4 GPUs runs 4 sites at a time


def run_on_flower(
    values: Mapping[str, str],
    out: Path,
    sites: Path,
    site_count: int,
    *,
    on_round: Callable[[RoundLine], None] | None = None,
    resources: Resources = Resources(),
) -> None:
    """Run a study over the emulated hospitals of the folder `sites`; the ServerApp writes its results into `out`.

    `values` are the run's study (in canonical form), name and initial file. `sites` holds one <name>/site.toml per
    hospital. `on_round` is called with each round record as it is written. Logs stay in out/logs. The environment
    variable RAY_ADDRESS names a Ray cluster to use; without it Ray starts on this machine and ends with the run. Raises
    RoundError with the run's own reason if it fails, ConfigurationError if Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigurationError("The engine 'flower' needs Ray, which is not installed: pip install 'prostafed[sim]'.")
    logs = make_folder(out.resolve() / "logs")
    with suppress(FileNotFoundError):
        (out / "state.json").unlink()  # of an earlier run, or it would be taken for this one's end
    seen = read_rounds(out)  # by a run that is resumed now
    # A socket path may hold 107 characters and Ray spends 70 of them: a short folder outside `out`.
    scratch = make_scratch(f"pf-{os.getpid()}-", "/tmp" if os.name == "posix" else None)
    try:
        with interrupted_by_sigterm(), children(grace_s=1.0) as started:  # or the ServerApp would go on for seconds
            connection = _start_runtime(scratch, logs, resources, started)
            places = {"out": str(out.resolve()), "sites": str(sites.resolve()), "sites_expected": str(site_count)}
            bundle = write_bundle(scratch / "prostafed")
            run_id = submit(connection, bundle, {**values, **places}, _describe_federation(site_count, resources))
            ended = partial(find_end, connection, run_id)
            try:
                follow(out, ended, on_round=on_round, seen=seen, started=started, ask_every_s=_ASK_EVERY_S)
            finally:
                with suppress(RoundError):  # how the run ended is what to report, not that its log could not be had
                    write_text(logs / "run.log", read_log(connection, run_id))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _start_runtime(scratch: Path, logs: Path, resources: Resources, started: list[Child]) -> Connection:
    """Start a SuperLink and the SuperExec that runs its simulations, and return where it answers."""
    address = f"{LOOPBACK}:{find_free_port()}"
    connection = Connection(make_folder(scratch / "flower"), address, authority=None)
    write_connection(connection)
    secret = scratch / "secret"  # only our SuperExec may take up runs; the folder is readable by its owner alone
    write_text(secret, secrets.token_hex(32))
    environment = flower_environment(
        connection.flower_home,
        RAY_ADDRESS=os.environ.get("RAY_ADDRESS", "local"),  # never a cluster that happens to run here
        RAY_TMPDIR=str(scratch),
        RAY_USAGE_STATS_ENABLED="0",
        OMP_NUM_THREADS=str(resources.cpus_per_site),
    )
    common: list[str | Path] = ["--superexec-auth-secret-file", secret, "--insecure"]
    host, port = address.split(":")
    link: list[str | Path] = [find_program("flower-superlink"), *common, "--simulation", "--isolation", "process"]
    link += ["--host", host, "--port", port]
    executor: list[str | Path] = [find_program("flower-superexec"), *common, "--runtime-api-address", address]
    # Ray's workers import from the folder they are started in first: an empty one.
    folder = make_folder(scratch / "empty")
    started.append(start_child("The SuperLink", link, logs / "superlink.log", environment, folder))
    wait_until_healthy(connection, started)
    started.append(start_child("The SuperExec", executor, logs / "superexec.log", environment, folder))
    return connection


def _describe_federation(site_count: int, resources: Resources) -> str:
    """Return Flower's federation configuration; unbounded, Ray would start an actor per CPU, however few the sites."""
    options = {
        "num-supernodes": site_count,
        "client-resources-num-cpus": resources.cpus_per_site,
        "client-resources-num-gpus": resources.gpus_per_site,
    }
    if "RAY_ADDRESS" not in os.environ:  # a running cluster brings its own
        options["init-args-num-cpus"] = max(1, min(os.cpu_count() or 1, site_count * resources.cpus_per_site))
    return " ".join(f"{key}={value}" for key, value in options.items())
