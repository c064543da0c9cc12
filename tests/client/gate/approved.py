"""A site with a key of its own, and an approval of a study at it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prostafed.client.gate.approval_file import Approval, keep_approval
from prostafed.common.shell.keys import create_node_key
from prostafed.common.study import Study

SERVER = '[server]\naddress = "fl.example.org:8000"\nroot_certificates = "ca.crt"\nkey = "north.key"'


def write_keyed_site(folder: Path) -> Path:
    """Write a site file with a table [server], and the key it names; the site has no cases."""
    folder.mkdir(parents=True, exist_ok=True)
    create_node_key(folder / "north.key", "north")
    path = folder / "site.toml"
    path.write_text(f'name = "north"\n{SERVER}\n')
    return path


def day(days: int) -> str:
    """Return the date so many days from now."""
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


def approve(site_file: Path, study: Study, **fields: Any) -> Approval:
    """Approve a study for today and two rounds, unless `fields` say otherwise."""
    said = {"until": day(0), "rounds": 2, "by": "jane", "statement": "What leaves: 3 MB.", **fields}
    about = {"study_hash": study.hash(), "study": study.canonical(), "name": study.name}
    return keep_approval(site_file, Approval(**{**about, "approved_at": "2026-01-01T00:00:00", **said}), "approved")
