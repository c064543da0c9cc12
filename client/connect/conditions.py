"""Could this site train now? What its own files say: certificate, approvals, cases, disk, hours. No torch here."""

import shutil
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from prostafed.client.connect.certificates import check_authority
from prostafed.client.gate.admission import admit_cases, count_patients, find_few
from prostafed.client.gate.approval import count_used, find_end
from prostafed.client.gate.approval_file import list_approved
from prostafed.client.gate.outbox import read_outbox
from prostafed.client.gate.waiting import list_waiting
from prostafed.client.site.hours import is_within
from prostafed.client.site.site_file import Site
from prostafed.common.errors import ApprovalError, CheckpointError, ConfigurationError, DataError
from prostafed.common.imaging.case_folder import CaseFolder, open_case_folder
from prostafed.common.shell.command import say_command
from prostafed.common.shell.health import Condition
from prostafed.common.study import Study, parse_study

WAITS_S = 900.0  # a run that waits asks every minute, one that goes on without this site every five
ENOUGH_GB = 10.0  # of disk; below, it is said before it is too little


@dataclass(frozen=True)
class Studies:
    """The studies that are approved, and what is to be said of all."""

    approved: tuple[Study, ...]
    conditions: tuple[Condition, ...]


def check_certificate(site: Site, now: datetime) -> Condition:
    """Is the coordinator's certificate authority valid?"""
    if site.server is None:
        fix = "Ask the coordinator for a join file, and run prostafed-site join FILE."
        return Condition("certificate", False, "The site file names no coordinator yet.", fix)
    return check_authority(site.server.root_certificates, now)


def list_studies(site_file: Path, now: datetime) -> Studies:
    """Return which studies this site answers, until when, and what waits for a decision."""
    approved, over = list[Study](), list[str]()
    conditions = list[Condition]()
    try:
        found = list_approved(site_file)
    except ConfigurationError as error:  # no server, or no key
        return Studies((), (Condition("approved", False, "No approval can be read.", str(error)),))
    for digest, approval in found.items():
        if isinstance(approval, str):
            conditions.append(Condition("approved", False, f"The approval of {digest[:12]} does not count.", approval))
            continue
        name = f"{approval.name} ({digest[:12]})"
        try:
            used = count_used(site_file, approval)
        except ApprovalError as error:  # what counts them is damaged
            conditions.append(Condition("approved", False, f"The approval of {name} does not count.", str(error)))
            continue
        if end := find_end(approval, used):
            over.append(f"That of {name} {end}.")
        else:
            approved.append(parse_study(approval.study))
            text = f"{name} is approved until {approval.until}; {used} of {approval.rounds} rounds are used."
            conditions.append(Condition("approved", True, text))
    waiting = list(_list_waiting(site_file, now))
    if not approved and not conditions and not waiting:
        fix = "Wait until the coordinator asks for a study, or approve its file: prostafed-site approve STUDY.toml"
        conditions.append(Condition("approved", False, " ".join(["No study is approved.", *over[-3:]]), fix))
    return Studies(tuple(approved), (*conditions, *waiting))


def check_cases(site: Site, approved: tuple[Study, ...]) -> list[Condition]:
    """Which of the indexed cases does each approved study admit?"""
    try:
        changed = site.cases.stat().st_mtime_ns if site.cases.is_dir() else 0
        cases = _open(site.cases, changed)
    except DataError as error:
        return [Condition("cases", False, "There are no cases that can be used.", str(error))]
    if not approved:
        return [Condition("cases", True, f"{len(cases.records)} cases are indexed.")]
    return [_check_study(cases, study, site.privacy.minimum_cohort) for study in approved]


def check_disk(site: Site, folder: Path) -> Condition:
    """Is there room for what is kept?"""
    places = {folder, next(each for each in (site.memory, *site.memory.parents) if each.exists())}
    free_gb, place = min((shutil.disk_usage(each).free / 1e9, str(each)) for each in places)
    least = site.worker.free_disk_gb
    text, fix = f"{free_gb:.0f} GB are free in {place}.", "Make room there."
    if free_gb < least:
        return Condition("disk", False, f"{free_gb:.1f} GB are free in {place}; below {least:g} nothing is begun.", fix)
    return Condition("disk", True, text, fix if free_gb < ENOUGH_GB else "")


def check_outbox(site_file: Path) -> list[Condition]:
    """Does an update wait for a person? Nothing is said where none does."""
    try:
        waiting = [str(each.number) for each in read_outbox(site_file.resolve().parent) if each.state == "waiting"]
    except CheckpointError as error:
        return [Condition("outbox", False, "The outbox cannot be read: nothing leaves.", str(error))]
    fix = f"Look at it, and decide: {say_command('prostafed-site', 'outbox', '--site', site_file)}"
    text = f"{len(waiting)} {'update waits' if len(waiting) == 1 else 'updates wait'} for you: {', '.join(waiting)}."
    return [Condition("outbox", True, text, fix)] if waiting else []


def check_hours(site: Site) -> Condition:
    """Is it allowed to work at this hour? A site that rests is ready all the same."""
    hours = site.worker.hours
    if not hours:
        return Condition("hours", True, "It works at any hour.")
    now = "It works now." if is_within(hours, datetime.now().time()) else "It rests now."
    return Condition("hours", True, f"It works in {hours}. {now}")


def _list_waiting(site_file: Path, now: datetime) -> list[Condition]:
    conditions = []
    for digest, each in list_waiting(site_file.resolve().parent).items():
        try:
            old_s = (now - datetime.fromisoformat(each.last_asked)).total_seconds()
        except (TypeError, ValueError):
            old_s = 0.0
        text = f"{each.study.name} ({digest[:12]}) waits for your decision; asked last at {each.last_asked[:16]} UTC."
        command = say_command("prostafed-site", "approve", digest[:12], "--site", site_file)
        fix = f"Read what it does, and decide: {command}"
        conditions.append(Condition("approved", old_s > WAITS_S, text, fix))
    return conditions


def _check_study(cases: CaseFolder, study: Study, minimum: int) -> Condition:
    try:
        admitted = admit_cases(cases, study.data).records
    except DataError as error:
        return Condition("cases", False, f"No case fits {study.name}.", str(error))
    patients = count_patients(admitted)
    text = f"{study.name} admits {len(admitted)} of {len(cases.records)} cases, of {patients} patients."
    if few := find_few(patients, minimum):
        return Condition("cases", False, f"{text} Every stage of it is declined.", few)
    return Condition("cases", True, text)


@lru_cache(maxsize=1)
def _open(folder: Path, changed: int) -> CaseFolder:
    """Return the cases of a folder as it was changed last: a file that is put in the place of another changes it."""
    del changed
    return open_case_folder(folder)
