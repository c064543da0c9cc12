"""What a person of the hospital has approved: approvals/HASH.json beside the site file, signed with the site's own key.

The file has exactly one form: one in which a byte differs is none.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from pydantic import Field, ValidationError

from prostafed.client.gate.audit import record
from prostafed.client.gate.waiting import forget_request
from prostafed.client.site.site_file import Server, read_site_file
from prostafed.common.errors import ApprovalError, ConfigurationError
from prostafed.common.shell.configuration import Section
from prostafed.common.shell.files import holding, make_folder, write_bytes

FOLDER = "approvals"
_ALGORITHM = ec.ECDSA(hashes.SHA384())


class Approval(Section):
    """What a person has approved; times are UTC, in ISO format."""

    study_hash: str
    study: str  # in canonical form
    name: str  # of the study
    approved_at: str
    until: str  # the last day
    rounds: int  # most rounds of training
    by: str  # login name
    statement: str  # what was shown
    initial_digest: str = ""  # of the encoder's tensors that the study starts from; "" where they are random
    initial_left_out: tuple[str, ...] = ()  # the encoder's tensors that the file does not hold
    # Of a masked study: the public keys, OpenSSH lines, of who takes part, by name.
    peers: dict[str, str] = Field(default_factory=dict)
    withdrawn_at: str = ""
    signature: str = ""  # of all above, in hexadecimal: ECDSA, P-384, SHA-384

    def content(self) -> bytes:
        """Return the bytes of the approval's file."""
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True).encode() + b"\n"

    def signed(self) -> bytes:
        """Return the bytes that are signed: canonical JSON of all but the signature."""
        fields = self.model_dump(mode="json", exclude={"signature"})
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def read_server(site_file: Path) -> Server:
    """Return the table [server] of a site file; raises ConfigurationError where it is missing."""
    server = read_site_file(site_file).server
    if server is None:
        raise ConfigurationError(
            f"{site_file}: the table [server] is missing. It names the site's key, which approvals are signed with. "
            "Add address, root_certificates and key."
        )
    return server


def keep_approval(site_file: Path, approval: Approval, event: str) -> Approval:
    """Sign an approval with the site's key, keep it in the place of one of the same study, and return it. `event` is
    what the audit says of it.
    """
    key, site_folder = _read_key(read_server(site_file).key), site_file.resolve().parent
    signed = approval.model_copy(update={"signature": key.sign(approval.signed(), _ALGORITHM).hex()})
    path = make_folder(site_folder / FOLDER) / f"{approval.study_hash}.json"
    facts = {"study": approval.study_hash, "name": approval.name, "by": approval.by, "until": approval.until}
    record(site_folder, event, **facts, rounds=approval.rounds)
    with holding(path.with_suffix(".lock"), wait=True):
        write_bytes(path, signed.content())
        if event == "approved":
            path.with_suffix(".used.json").unlink(missing_ok=True)  # rounds under an earlier one
    forget_request(site_folder, approval.study_hash)
    return signed


def withdraw(site_file: Path, approval: Approval) -> Approval:
    """Withdraw an approval, from the next request on, and return it as it is kept."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return keep_approval(site_file, approval.model_copy(update={"withdrawn_at": now}), "withdrawn")


def read_approval(site_file: Path, study_hash: str) -> Approval | None:
    """Return what is approved of the study with this hash, over or not; None where nothing is.

    Raises ApprovalError for a file that is not, byte by byte, what this site's key signed for this study.
    """
    path = site_file.resolve().parent / FOLDER / f"{study_hash}.json"
    if not path.exists():
        return None
    key = _read_key(read_server(site_file).key).public_key()
    reason = "it is damaged"
    try:
        content = path.read_bytes()
        approval = Approval.model_validate_json(content)
        if approval.content() == content and approval.signature == bytes.fromhex(approval.signature).hex():
            reason = "it is for another study"
            if approval.study_hash == study_hash:
                reason = "it was changed, or signed with another key than the site's"
                key.verify(bytes.fromhex(approval.signature), approval.signed(), _ALGORITHM)
                return approval
    except (ValidationError, ValueError, InvalidSignature):
        pass
    raise ApprovalError(
        f"The approval of the study {study_hash[:12]} is none of this site: {reason}. Approve the study again, or "
        f"remove {path}."
    )


def list_approved(site_file: Path) -> Mapping[str, Approval | str]:
    """Return what was approved, by hash of the study: each approval, or a sentence on why its file is none."""
    found: dict[str, Approval | str] = {}
    for path in sorted((site_file.resolve().parent / FOLDER).glob("*.json")):
        if path.suffixes != [".json"]:
            continue  # rounds that are used
        try:
            if approval := read_approval(site_file, path.stem):
                found[path.stem] = approval
        except ApprovalError as error:
            found[path.stem] = str(error)
    return found


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_ssh_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"Cannot read the site's private key {path}. Restore it, or make one.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ConfigurationError(f"{path} is not an ECDSA key on P-384. Make one: prostafed-site key.")
    return key
