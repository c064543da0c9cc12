"""Pseudonyms: HMAC-SHA256 with the site's own secret, so that nobody without it can go back from an id to a patient."""

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.files import write_once

_LENGTH = 16  # hexadecimal digits: 64 bits, no collision to be expected among millions of studies


def make_pseudonym(secret: bytes, kind: str, value: str) -> str:
    """Return the pseudonym of `value`; `kind` keeps equal values of different meaning apart.

    Kinds: "PatientID" (with issuer) -> a manifest's patient_key; "patient" (a patient_key) -> the record's patient_id;
    "study" (StudyInstanceUID) and "case" (a manifest row's own case_id) -> case_id; "series" (its UID, ImageType and
    EchoTime).
    """
    text = f"{kind}\0{value}".encode("utf-8", "surrogateescape")  # a path may hold bytes that are no UTF-8
    return hmac.new(secret, text, hashlib.sha256).hexdigest()[:_LENGTH]


def create_secret(path: Path) -> None:
    """Write a new secret to `path`, readable by its owner only; raises ConfigurationError where one exists already."""
    try:
        write_once(path, f"{secrets.token_hex(32)}\n".encode("ascii"))
    except FileExistsError as error:
        raise ConfigurationError(
            f"{path} exists already. Keep it: with another secret every case would get another id."
        ) from error


def read_secret(path: Path) -> bytes:
    """Return the site's secret; raises ConfigurationError where it is missing, malformed or readable by others."""
    try:
        text = path.read_text(encoding="ascii").strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Cannot read the site's secret {path}. Make one: prostafed-site init.") from error
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ConfigurationError(f"{path}: expected 64 hexadecimal digits. Restore the site's own secret file.")
    if mode & 0o077:
        raise ConfigurationError(f"{path} can be read by others. Run: chmod 600 {path}")
    return bytes.fromhex(text)
