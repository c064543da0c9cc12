"""Flower's command-line programs: which ones are started, and with which environment."""

import os
import sys
from pathlib import Path

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.processes import LOOPBACK


def find_program(name: str) -> Path:
    """Return the program `name` that belongs to this Python, never one that PATH happens to hold."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise ConfigurationError(f"Expected the program {path}, which comes with flwr. Install prostafed again.")
    return path


def flower_environment(flower_home: Path, **more: str) -> dict[str, str]:
    """Return the environment of Flower's programs: own settings, no telemetry, nothing fetched, no proxy."""
    environment = dict(os.environ)
    direct = [environment.get("NO_PROXY") or environment.get("no_proxy"), LOOPBACK, "localhost"]
    without_proxy = ",".join(filter(None, direct))  # a hospital's proxy cannot reach our loopback
    return environment | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]),
        "FLWR_HOME": str(flower_home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "NO_PROXY": without_proxy,
        "no_proxy": without_proxy,
        "PYTHONUTF8": "1",
        **more,
    }
