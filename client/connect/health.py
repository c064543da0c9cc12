"""What `prostafed-site status` tells, and what monitors get: is the site connected, and could it train now?

What the link and the worker know of themselves they wrote to status.json; whether they live is told by the locks that
they hold, which no killed process keeps. All else is read from the site's own files, without torch.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from prostafed.client.connect.clock import say_time
from prostafed.client.connect.conditions import (
    check_cases,
    check_certificate,
    check_disk,
    check_hours,
    check_outbox,
    list_studies,
)
from prostafed.client.connect.status import LINK_LOCK, UNUSABLE, WORKER_LOCK, Status, read_status
from prostafed.client.gate.halt import say_halt
from prostafed.client.site.site_file import Site, read_site_file
from prostafed.common.exchange.app_bundle import NAME, bundle_hash
from prostafed.common.shell.command import say_command
from prostafed.common.shell.files import is_held
from prostafed.common.shell.health import Condition, Health

LATE_S = 90.0  # without contact: heartbeats come every 20 s
SILENT_S = 60.0  # without a line of the link itself, which writes every 5 s
LOADING_S = 180.0  # that a worker may take to load
DEVICES = Path("/dev")  # where the driver shows its GPUs


def describe_site(site_file: Path) -> Health:
    """Return the state of a site; raises ConfigurationError where the site file is wrong."""
    now, site, folder = datetime.now(UTC), read_site_file(site_file), site_file.resolve().parent
    running, status = is_held(folder / LINK_LOCK), read_status(folder)
    conditions = [check_running(status, running, site_file, now), *check_halted(folder, site_file)]
    if running and status is not None and status.state != "halted":
        conditions.append(check_connected(status, now))
    if running and status is not None:
        conditions.append(check_release(status))
    conditions.append(check_certificate(site, now))
    if running and status is not None:
        conditions.append(check_device(status, site, folder, now))
    studies = list_studies(site_file, now)
    conditions += [*studies.conditions, *check_outbox(site_file)]
    conditions += check_cases(site, studies.approved)
    conditions += [check_disk(site, folder), check_hours(site)]
    told = asdict(status) if status else {}
    summary = f"{site.name} works for {status.coordinator if status else 'nobody'}."
    return Health(running, tuple(conditions), summary, {"site": site.name, "status": told})


def check_running(status: Status | None, running: bool, site_file: Path, now: datetime) -> Condition:
    """Is there a link, and does it move?"""
    logs = f"{site_file.resolve().parent / 'logs' / 'link.log'} says more."
    if not running:
        fix = f"Start it: {say_command('prostafed-site', 'start', site_file)}"
        return Condition("running", False, *_say_ended(status, fix, logs))
    if status is None:
        return Condition("running", False, "The link runs, and has not written its status.", f"Wait a moment. {logs}")
    silent_s = count_s(status.written, now)
    if silent_s > SILENT_S:
        fix = f"It hangs, or the disk is full. {logs} Make room, or end it and start it again."
        return Condition("running", False, f"The link has written nothing for {say_time(silent_s)}.", fix)
    return Condition("running", True, f"The link runs as process {status.pid}.")


def check_halted(folder: Path, site_file: Path) -> list[Condition]:
    """May anything leave this site? Nothing is said where it may."""
    fix = f"To go on: {say_command('prostafed-site', 'go-on', '--site', site_file)}"
    return [Condition("halted", False, said, fix)] if (said := say_halt(folder)) else []


def _say_ended(status: Status | None, start: str, logs: str) -> tuple[str, str]:
    """Return how the last link came to its end, and what to do."""
    if status is None:
        return "The link has never run here.", start
    if status.state == "refused":
        return f"The link ended at {say_moment(status.since)}: the coordinator refused it.", f"{status.error} {start}"
    if status.state == "stopped":
        return f"The link was ended at {say_moment(status.since)}.", start
    text = (
        f"The link stopped without leaving after {say_moment(status.written)}: it was killed, or the machine went off."
    )
    return text, f"Nothing is lost. {logs} {start}"


def check_connected(status: Status, now: datetime) -> Condition:
    """Does the coordinator know this site, and answer it?"""
    late_s, reason = count_s(status.last_contact, now), status.error
    if status.state == "connecting" and not reason:
        return Condition("connected", False, f"Connecting to {status.coordinator}.", "Wait a moment.")
    last = f"last contact {say_time(late_s)} ago" if status.last_contact else "never yet since it was started"
    if status.state == "connecting" or late_s > LATE_S:
        fix = f"{reason} If it stays so, ask the coordinator whether its link runs, and IT whether the network is up."
        return Condition("connected", False, f"Not connected to {status.coordinator}: {last}.", fix.strip())
    return Condition("connected", True, f"Connected to {status.coordinator}, {last}. {_say_work(status)}")


def check_release(status: Status) -> Condition:
    """Is the release that runs the one installed, and the coordinator's?"""
    installed = f"{NAME} {version(NAME)}"
    if status.bundle != bundle_hash():
        text = f"The link runs {status.release or 'another release'}; {installed} is installed."
        return Condition("release", False, text, "End the link and start it again.")
    if status.other_release:
        text = f"The coordinator's last run was not of {installed}, and was refused."
        return Condition("release", False, text, "Ask the coordinator for its release, and install that one.")
    return Condition("release", True, f"{installed}.")


def check_device(status: Status, site: Site, folder: Path, now: datetime) -> Condition:
    """Does the worker live, and see what the site file asks for?"""
    worker, log = status.worker, folder / "logs" / "worker.log"
    if worker.device and is_held(folder / WORKER_LOCK):
        wrong, fix = _judge_device(worker.device, site.device)
        seen = "the CPU" if worker.device == "cpu" else worker.device
        return Condition("device", not wrong, wrong or f"The worker sees {seen}.", fix)
    if not worker.device and count_s(worker.started or status.written, now) < LOADING_S:
        return Condition("device", False, "The worker is being loaded.", "Wait a moment.")
    fix = f"Wait a moment: the link starts another. If that does not come up, {log} says why."
    return Condition("device", False, "The worker is gone.", fix)


def _judge_device(seen: str, asked: str) -> tuple[str, str]:
    """Return what is wrong with what the worker sees, and what to do; ("", "") where nothing is."""
    if seen.endswith(UNUSABLE):
        return f"The worker sees {seen}.", _DRIVER_GONE
    if seen == "cpu" and asked.startswith("cuda"):
        return f"The site file asks for {asked}, and the worker sees the CPU.", _DRIVER_GONE
    if seen == "cpu" and asked == "auto" and any(DEVICES.glob("nvidia[0-9]*")):
        return "This machine has a GPU, and the worker sees the CPU.", _DRIVER_GONE
    return "", ""


_DRIVER_GONE = (
    'Run nvidia-smi: where it fails, the driver is gone. Mend it, and start the link again; or set device = "cpu" in '
    "the site file, and expect hours where a GPU takes minutes."
)


def count_s(moment: str, now: datetime) -> float:
    """Return the seconds since a moment in ISO 8601; infinity where it is none."""
    try:
        return max(0.0, (now - datetime.fromisoformat(moment)).total_seconds())
    except (TypeError, ValueError):
        return float("inf")


def say_moment(moment: str) -> str:
    """Return a moment of status.json for a person."""
    return f"{str(moment)[:16].replace('T', ' ')} UTC"


def _say_work(status: Status | None) -> str:
    if status is None or status.state == "resting":
        return "It rests until its hours."
    if status.state == "working":
        return f"It works on {status.run or 'a question'}, stage {status.stage}, round {status.round}."
    return f"It waits for work. Since its start it answered {status.answered} questions and refused {status.refused}."
