"""Invitations: a join file for one hospital, with a code that enrols one key, once, until a date.

The home keeps invitations/NAME.json with the SHA-256 of the code. Whoever asks by wire learns only that an invitation
is not valid; the reason of the JoinError is for the coordinator's records:

MALFORMED    no request that can be read            WRONG_CODE   another code
UNKNOWN      nobody of that name is invited
EXPIRED      too late                               WRONG_PROOF  the key is not held by who asks
USED         by another key, or revoked since       KEY_TAKEN    the key is enrolled under another name

Wrong codes end no invitation: of 192 bits none is guessed, and a stranger who knows a name could keep a hospital out.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from prostafed.common.errors import ConfigurationError, JoinError
from prostafed.common.exchange.joining import (
    MOST_BYTES,
    NAME_PATTERN,
    JoinAnswer,
    JoinFile,
    JoinRequest,
    join_address,
    proof_message,
    split_address,
)
from prostafed.common.shell.configuration import Section
from prostafed.common.shell.files import holding, make_folder, write_bytes
from prostafed.common.shell.keys import is_signed, parse_public_key, read_public_keys, say_public_key, write_once
from prostafed.server.link.certificates import name_host
from prostafed.server.link.pki import Pki, describe_certificates


class Invitation(Section):
    """What the home keeps of one; of the code, only its SHA-256."""

    code_sha256: str
    until: datetime
    replace: bool  # whether a key that is enrolled under the name gives way
    public_key: str = ""  # the one that has used it
    enrolled: bool = False  # whether that key was enrolled: once, so that a site revoked since stays out


def invite(home: Path, name: str, address: str, days: int, now: datetime, *, replace: bool = False) -> JoinFile:
    """Invite the hospital `name` for `days`, in the place of an earlier invitation, and return its join file.

    `address` is how the hospital reaches the coordinator, HOST[:PORT]. Raises ConfigurationError where the name is none
    or enrolled already, and where the certificate is not for this host.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigurationError(f"{name!r} is not a site name: up to 41 lower-case letters, digits and hyphens.")
    if name in _list_enrolled(home) and not replace:
        raise ConfigurationError(
            f"{name} is enrolled already. With --replace it can come back with a new key, and the old one then ends."
        )
    pki = Pki(home / "pki")
    reached = _check_address(pki, address, now)
    code, until = secrets.token_urlsafe(24), (now + timedelta(days=days)).replace(microsecond=0)
    kept = Invitation(code_sha256=_digest(code), until=until, replace=replace)
    folder = make_folder(home / "invitations")
    with holding(folder / "lock", wait=True):
        _keep(folder / f"{name}.json", kept)
    authority = pki.ca_certificate.read_text(encoding="ascii")
    return JoinFile(
        release=version("prostafed"), address=reached, name=name, code=code, until=until, authority=authority
    )


def write_join_file(path: Path, join: JoinFile) -> None:
    """Write a join file that only its owner can read; raises ConfigurationError where there is a file of that name."""
    text = (
        f"# An invitation for the hospital {join.name}. There: prostafed-site join {join.name}.join\n"
        "# It works once. Until then, whoever holds it can take the hospital's place: send it like a password.\n"
        f"release = {json.dumps(join.release)}\n"
        f"address = {json.dumps(join.address)}\n"
        f"name = {json.dumps(join.name)}\n"
        f"code = {json.dumps(join.code)}\n"
        f"until = {join.until.isoformat()}\n"
        f"authority = '''\n{join.authority}'''\n"
    )
    write_once(path, text.encode())


def redeem(home: Path, body: bytes, now: datetime, enrol: Callable[[str, bytes], None]) -> bytes:
    """Enrol the hospital that sends `body`, a JoinRequest, and return the answer to it.

    `enrol(name, public_key)` makes this key, an OpenSSH line, the only one of that name; it is called again where it
    failed before. Of several who ask at once, one is enrolled. The same key with the same code gets the same answer
    again, so that a lost one can be asked for. Raises JoinError.
    """
    request, key = _read_request(body)
    path = home / "invitations" / f"{request.name}.json"
    if not path.exists():
        raise JoinError("UNKNOWN")
    with holding(path.with_name("lock"), wait=True):
        invitation = _read(path)
        if not hmac.compare_digest(invitation.code_sha256, _digest(request.code)):
            raise JoinError("WRONG_CODE")
        if now >= invitation.until:
            raise JoinError("EXPIRED")
        message = proof_message(request.name, request.code, request.public_key)
        if not is_signed(key, message, bytes.fromhex(request.proof)):
            raise JoinError("WRONG_PROOF")
        _check_place(home, request, invitation)
        if not invitation.enrolled:
            bound = invitation.model_copy(update={"public_key": request.public_key})
            _keep(path, bound)  # first: from here on the code is worth nothing to another key
            enrol(request.name, request.public_key.encode())
            _keep(path, bound.model_copy(update={"enrolled": True}))
    return JoinAnswer(name=request.name).model_dump_json().encode()


def _check_place(home: Path, request: JoinRequest, invitation: Invitation) -> None:
    """Raise JoinError where another key has used the invitation, or name or key are taken."""
    enrolled = _list_enrolled(home)
    there = enrolled.get(request.name)
    if invitation.public_key not in ("", request.public_key):
        raise JoinError("USED")
    if invitation.enrolled and there != request.public_key:
        raise JoinError("USED")
    if there not in (None, request.public_key) and not invitation.replace:
        raise JoinError("USED")
    if request.public_key in [key for name, key in enrolled.items() if name != request.name]:
        raise JoinError("KEY_TAKEN")


def _read_request(body: bytes) -> tuple[JoinRequest, ec.EllipticCurvePublicKey]:
    try:
        if len(body) > MOST_BYTES:
            raise ValueError
        request = JoinRequest.model_validate_json(body)
        bytes.fromhex(request.proof)
        key = parse_public_key(request.public_key.encode(), "public_key")
        if say_public_key(key).decode() != request.public_key:  # one form: keys are compared as text
            raise ValueError
    except (ValidationError, ValueError, ConfigurationError) as error:
        raise JoinError("MALFORMED") from error
    return request, key


def _check_address(pki: Pki, address: str, now: datetime) -> str:
    try:
        host, port = split_address(address)
    except ValueError as error:
        raise ConfigurationError(
            f"--host is {address!r}, expected a name or an address with or without a port, e.g. fl.example.org:8000 "
            "or [2001:db8::1]:8000."
        ) from error
    host, hosts = str(name_host(host).value), describe_certificates(pki, now).hosts
    if host not in [each.lower() for each in hosts]:
        raise ConfigurationError(
            f"The server's certificate is for {', '.join(hosts)}, not for {host}. Add the name: "
            f"prostafed-server certificate --host {host}."
        )
    return join_address(host, port)


def _list_enrolled(home: Path) -> dict[str, str]:
    """Return the public key of each enrolled site, by name."""
    return read_public_keys(home / "sites")


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _keep(path: Path, invitation: Invitation) -> None:
    write_bytes(path, invitation.model_dump_json(indent=2).encode() + b"\n", mode=0o600)


def _read(path: Path) -> Invitation:
    try:
        return Invitation.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ConfigurationError(f"{path} is damaged. Invite {path.stem} again: prostafed-server invite.") from error
