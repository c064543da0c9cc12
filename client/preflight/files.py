"""Checks of what lies in the site's folder: permissions, secret, key pair, manifest."""

import os
from collections import Counter
from collections.abc import Iterator

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from prostafed.client.manifest import check_manifest
from prostafed.client.preflight.records import Remark, Situation
from prostafed.client.site.identity import read_secret
from prostafed.common.errors import ConfigurationError, DataError
from prostafed.common.shell.files import is_writable
from prostafed.common.shell.keys import read_public_key


def check_folders(situation: Situation) -> Iterator[Remark]:
    """Folders the site writes to."""
    site = situation.site
    for path in (site.cases, site.memory, situation.site_file.resolve().parent / "logs"):
        existing = next(each for each in (path, *path.parents) if each.exists())
        if is_writable(existing):
            yield Remark(f"The folder {path.name} can be written to.")
        else:
            fix = f"Give this user the right to write there, or name another folder in the site file: {path}"
            yield Remark(f"The folder {path.name} cannot be written to.", fix)
    if site.dicom is not None and not site.dicom.is_dir():
        yield Remark("The folder of the PACS export does not exist.", "Correct `dicom` in the site file, or mount it.")


def check_secret(situation: Situation) -> Iterator[Remark]:
    """The secret pseudonyms are made with."""
    try:
        read_secret(situation.site.secret)
    except ConfigurationError as error:
        yield Remark("The site's secret cannot be used.", str(error))
    else:
        yield Remark("The secret is there, and readable by its owner only.")


def check_key(situation: Situation) -> Iterator[Remark]:
    """The key pair the coordinator knows the site by."""
    server = situation.site.server
    if server is None:  # said by check_coordinator
        return
    public = server.key.with_name(f"{server.key.name}.pub")
    try:
        private = load_ssh_private_key(server.key.read_bytes(), password=None)
        line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except (OSError, ValueError, TypeError):
        yield Remark(
            f"{server.key.name} is not a private key that can be read.",
            f"Restore it, or make a new one with `prostafed-site key {server.key.name}` and send {public.name} again.",
        )
        return
    if os.name == "posix" and server.key.stat().st_mode & 0o077:
        yield Remark("The private key can be read by others.", f"Run: chmod 600 {server.key}")
    try:
        matches = read_public_key(public) == line
    except ConfigurationError as error:
        yield Remark("The public key cannot be read.", str(error))
        return
    if matches:
        yield Remark("The key pair is complete.")
    else:
        yield Remark(
            f"{public.name} does not belong to {server.key.name}.",
            "Put back the pair that was made together, or make a new one and send its public half to the coordinator.",
        )


def check_tables(situation: Situation) -> Iterator[Remark]:
    """The manifest: one line, since `manifest check` lists every mistake."""
    try:
        manifest = check_manifest(situation.site.manifest)
    except DataError as error:
        yield Remark("There is no manifest.", str(error))
        return
    count = Counter(finding.severity for finding in manifest.findings)
    text = f"The manifest lists {len(manifest.studies)} studies: {count['F']} errors, {count['W']} warnings."
    fix = "List them with `prostafed-site manifest check`, correct the tables and index again."
    yield Remark(text, fix if count["F"] else "")
