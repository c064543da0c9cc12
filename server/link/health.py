"""What `prostafed-server status` tells, and what monitors of the coordinator's machine get: is the link there, are the
sites, what do the runs wait for, who was refused?
"""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prostafed.common.errors import CheckpointError, ConfigurationError, DataError
from prostafed.common.exchange.app_bundle import NAME, bundle_hash
from prostafed.common.shell.chained_file import read_end
from prostafed.common.shell.command import say_command
from prostafed.common.shell.health import Condition, Health
from prostafed.server.link.following import read_rounds, say_round
from prostafed.server.link.home import AUDIT, FILE, LEAST_FREE_GB, LOG, ask_link, is_running
from prostafed.server.link.pki import RENEW_BEFORE, Pki, describe_certificates
from prostafed.server.link.submission import find_run
from prostafed.server.records.lines import RoundLine, StudyRecord, WaitingLine
from prostafed.server.records.read import read_waiting, read_whole

ENOUGH_GB = 10.0  # of disk; below, it is said before it is too little
_DOOR = timedelta(hours=24)
_DOOR_BYTES = 4_000_000  # of its audit, from the end: some 20,000 lines
_REMEDIES = {  # why somebody was refused -> what may be done about it
    "a clock that differs": "A hospital's clock is wrong: ask the hospitals to set theirs by NTP.",
    "no enrolled key": "A hospital may have a key that is not enrolled, or was revoked: invite it again.",
}


def describe_coordinator(home: Path) -> Health:
    """Return the state of a coordinator's home; raises ConfigurationError where it is none."""
    now = datetime.now(UTC)
    if not (home / "pki").is_dir():
        raise ConfigurationError(f"{home} is no coordinator's home. Name it with --home, or make it: init.")
    running, told, problem = is_running(home), dict[str, Any](), ""
    if running:
        try:
            told = {**ask_link(home, "status"), "address": _read_address(home)}
        except ConfigurationError as error:
            problem = str(error)
    waiting = {name: _read_waiting(home, name) for name in told.get("runs", ())}
    conditions = [check_link(home, running, told, problem), check_certificates(home, now)]
    conditions += check_sites(home, told, waiting, now) if told else []
    conditions += [check_run(home, name, waiting[name]) for name in waiting]
    conditions += [check_door(home, now), check_disk(home)]
    sites = told.get("sites", ())
    online = sum(bool(site["online"]) for site in sites)
    going_on = f"Going on: {', '.join(waiting)}." if waiting else "No run goes on."
    summary = f"{online} of {len(sites)} sites are connected. {going_on}"
    return Health(running, tuple(conditions), summary, {"home": str(home), "link": told})


def check_link(home: Path, running: bool, told: Mapping[str, Any], problem: str) -> Condition:
    """Is there a link, does it answer, and is it of the release that is installed?"""
    log, start = home / LOG, f"Start it: {say_command('prostafed-server', 'start', '--home', home)}"
    if not running and (home / FILE).exists():
        text = "The link stopped without leaving: it was killed, or the machine went off."
        return Condition("link", False, text, f"Its runs go on when it is started again. {log} may say more. {start}")
    if not running:
        return Condition("link", False, "No link runs.", start)
    if problem:
        return Condition("link", False, "A link runs and does not answer.", f"Wait a moment: it may start. Else {log}.")
    if told["bundle"] != bundle_hash():
        text = f"The link runs another release than {NAME} {version(NAME)}, which is installed."
        return Condition("link", False, text, "End it and start it again.")
    if not told["fit"]:
        return Condition("link", False, "The link cannot serve: its disk is full, or it hangs.", f"See {log}.")
    return Condition("link", True, f"{NAME} {version(NAME)} answers at {told['address']}.")


def check_certificates(home: Path, now: datetime) -> Condition:
    """Do the server's certificate and its authority hold?"""
    try:
        state = describe_certificates(Pki(home / "pki"), now)
    except ConfigurationError as error:
        return Condition("certificate", False, "A certificate cannot be read.", str(error))
    end = min(state.server_until, state.authority_until)
    text = f"The certificate is for {', '.join(state.hosts)}, until {state.server_until:%Y-%m-%d}."
    return Condition("certificate", not state.warnings or end - now > RENEW_BEFORE, text, " ".join(state.warnings))


def check_sites(
    home: Path, told: Mapping[str, Any], waiting: Mapping[str, Mapping[str, WaitingLine]], now: datetime
) -> list[Condition]:
    """Is every enrolled site connected, and does no run wait for one?"""
    if not told["sites"]:
        fix = f"Invite one: {say_command('prostafed-server', 'invite', 'NAME', '--host', 'HOST', '--home', home)}"
        return [Condition("sites", True, "No hospital is enrolled.", fix)]
    return [_check_site(site, waiting, now) for site in told["sites"]]


def _check_site(site: Mapping[str, Any], waiting: Mapping[str, Mapping[str, WaitingLine]], now: datetime) -> Condition:
    name, seen = f"site {site['name']}", _say_moment(site["seen"], now)
    if not site["online"]:
        text = f"Not connected; seen last at {seen}." if site["seen"] else "Not seen since the link was started."
        return Condition(name, False, text, "Ask the hospital what its prostafed-site status says.")
    text = f"Connected since {_say_moment(site['activated'], now)}, seen last at {seen}."
    for run, lines in waiting.items():
        if line := lines.get(site["name"]):
            text = f"{run} waits for it since {_say_moment(line.since, now)}: {line.code}."
            return Condition(name, line.code == "RESTING", text, _ASK.get(line.code, "Ask what its log says."))
    return Condition(name, True, text)


_ASK = {
    "NOT_APPROVED": "Ask the hospital to read the study and to decide: there, prostafed-site requests.",
    "APPROVAL_OVER": "Ask the hospital to approve the study again: there, prostafed-site requests.",
    "WRONG_RELEASE": "Ask the hospital to install this release.",
    "RESTING": "Wait: it trains at other hours.",
    "HALTED": "Ask the hospital why it lets nothing leave, and until when.",
}


def check_run(home: Path, name: str, waiting: Mapping[str, WaitingLine]) -> Condition:
    """How far is a run?"""
    folder = find_run(home, name)
    try:
        lines = read_rounds(folder)
        if not lines:
            lacks = ", ".join(f"{site} ({line.code})" for site, line in waiting.items())
            return Condition(f"run {name}", True, f"Waits for {lacks}." if lacks else "Begins.")
        row = RoundLine.model_validate_json(lines[-1], extra="ignore")
        stages = read_whole(folder / "study.json", StudyRecord).study["stage"]
        rounds = stages[row.stage - 1]["rounds"]
    except (DataError, OSError, ValueError, LookupError, TypeError) as error:
        return Condition(f"run {name}", False, "Its folder cannot be read.", f"{error}")
    place = f"Stage {row.stage} of {len(stages)}, round {row.round} of {rounds} is done"
    return Condition(f"run {name}", True, f"{place}: {say_round(row)}.")


def check_door(home: Path, now: datetime) -> Condition:
    """Who was refused lately, and was the record of it left alone?"""
    try:
        lines = read_end(home / AUDIT, _DOOR_BYTES)
    except CheckpointError as error:
        fix = "Find out who changed it. Keep it, move it away, and start the link again."
        return Condition("door", False, f"The record of the door was changed or is damaged. {error}", fix)
    since = (now - _DOOR).isoformat()
    counts = Counter(
        str(line.get("why", "")) for line in lines if line.get("event") == "refused" and str(line.get("time")) >= since
    )
    if not counts:
        return Condition("door", True, "Nobody was refused in the last 24 hours.")
    said = ", ".join(f"{count} for {why[:80]}" for why, count in counts.most_common(5))
    text = f"Refused in the last 24 hours: {said}. The file {AUDIT} says who."
    return Condition("door", True, text, " ".join(fix for why, fix in _REMEDIES.items() if why in counts))


def check_disk(home: Path) -> Condition:
    """Is there room for results and checkpoints?"""
    free_gb = shutil.disk_usage(home).free / 1e9
    fix = "" if free_gb > ENOUGH_GB else "Make room there."
    return Condition("disk", free_gb > LEAST_FREE_GB, f"{free_gb:.1f} GB are free in {home}.", fix)


def _read_address(home: Path) -> str:
    try:
        return str(json.loads((home / FILE).read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, LookupError, TypeError):
        return "?"


def _read_waiting(home: Path, run: str) -> Mapping[str, WaitingLine]:
    try:
        return read_waiting(find_run(home, run))
    except DataError:
        return {}


def _say_moment(moment: str, now: datetime) -> str:
    """Return a time in UTC, with its day where that is not today."""
    try:
        at = datetime.fromisoformat(moment).astimezone(UTC)
    except (TypeError, ValueError):
        return "?"
    return f"{at:%H:%M:%S} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"
