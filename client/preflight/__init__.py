"""Preflight: is this site ready to take part? The CHECKS table, one small function each, one fix per finding."""

from collections.abc import Iterator

from prostafed.client.preflight import cases, files, machine, network
from prostafed.client.preflight.records import Check, Remark, Situation

CHECKS: dict[str, Check] = {
    "versions": machine.check_versions,
    "folders": files.check_folders,
    "disk": machine.check_disk,
    "memory": machine.check_memory,
    "device": machine.check_device,
    "clock": machine.check_clock,
    "secret": files.check_secret,
    "manifest": files.check_tables,
    "cases": cases.check_cases,
    "key": files.check_key,
    "certificate": network.check_certificate,
    "coordinator": network.check_coordinator,
}


def run_checks(situation: Situation) -> Iterator[tuple[str, Remark]]:
    """Yield the results of each check by its name, in the order of CHECKS, as they come."""
    for name, check in CHECKS.items():
        for result in check(situation):
            yield name, result
