"""A site's first day: its folder, with a site file to fill in, a secret, a key pair and an empty manifest."""

import re
from dataclasses import dataclass
from pathlib import Path

from prostafed.client.manifest.rows import create_tables
from prostafed.client.site.identity import create_secret
from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.files import make_folder, write_text
from prostafed.common.shell.keys import open_node_key

SITE_FILE = """\
# The settings of this hospital. This file stays here: nobody else gets to see it.
# A line that begins with # is a comment. Paths are relative to this file.

# The name under which the coordinator knows this site: lower case letters, digits and hyphens.
name = "{name}"

# The folder that a PACS export is put into. It is only read, never changed.
# dicom = "/data/prostate-export"

# What is known of the studies beside the images: studies.csv, lesions.csv and reads.csv.
manifest = "manifest"

# Where the indexed cases are written, about 8 MB each.
cases = "cases"

# The secret that turns patient and study numbers into pseudonyms. Keep a copy in a safe place of the hospital, never
# send it: without it, the same patient would get another pseudonym.
secret = "site.secret"

# What the site keeps between the rounds of a study.
memory = "memory"

# "auto" takes the GPU if there is one, else the CPU; "cpu"; "cuda:0" is the first GPU.
device = "auto"

# How the coordinator is reached. `prostafed-site join FILE` writes this table; FILE comes from the coordinator.
# [server]
# address = "fl.example.org:8000"
# root_certificates = "ca.crt"
# key = "{name}.key"
"""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")


@dataclass(frozen=True)
class SiteFiles:
    """What a site's folder holds from the first day."""

    site_file: Path
    secret: Path
    public_key: Path  # the one to send
    manifest: Path


def init_site(folder: Path, name: str) -> SiteFiles:
    """Make the folder of a new site; where one is there already, raises ConfigurationError and writes nothing."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"--name is {name!r}, expected lower case letters, digits and hyphens, 41 at most. Choose a short name."
        )
    site_file, secret, key = folder / "site.toml", folder / "site.secret", folder / f"{name}.key"
    public = key.with_name(f"{key.name}.pub")
    if there := [path.name for path in (site_file, secret, key, public) if path.exists()]:
        raise ConfigurationError(
            f"{folder} holds {', '.join(there)} already, which is not overwritten. Choose another folder."
        )
    return complete_site(folder, name)


def complete_site(folder: Path, name: str) -> SiteFiles:
    """Make what the folder of a site still lacks: all of it, or the rest where that was interrupted."""
    site_file, secret, key = folder / "site.toml", folder / "site.secret", folder / f"{name}.key"
    for part in (folder, folder / "cases", folder / "memory", folder / "manifest"):
        _make_private(part)
    create_tables(folder / "manifest")
    if not secret.exists():
        create_secret(secret)
    open_node_key(key, name)
    if not site_file.exists():
        write_text(site_file, SITE_FILE.format(name=name))  # last: a folder that has it has the rest
    return SiteFiles(site_file, secret, key.with_name(f"{key.name}.pub"), folder / "manifest")


def _make_private(folder: Path) -> None:
    """Make a folder that nobody else on this machine can look into; one that is there keeps the rights it was given."""
    is_new = not folder.exists()
    make_folder(folder)
    if is_new:
        folder.chmod(0o700)
