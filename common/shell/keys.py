"""Key files, written once and readable by their owner alone; a site's key pair, by which the coordinator knows it.

All formats are OpenSSH's and all signatures ECDSA over SHA-384: a key outlives the release that made it.
"""

import base64
import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell import files
from prostafed.common.shell.files import make_folder


def write_once(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write `content` to `path`, whole or not at all; raises ConfigurationError if it exists: lost keys stay lost."""
    try:
        files.write_once(make_folder(path.parent) / path.name, content, mode)
    except FileExistsError as error:
        raise ConfigurationError(f"{path} exists and is not overwritten. Move it away to make a new one.") from error


def create_node_key(path: Path, comment: str) -> Path:
    """Write a site's private key to `path`, its public key to `path`.pub, and return the latter: the one to hand out.

    The same as `ssh-keygen -t ecdsa -b 384 -N ""`: ECDSA on the curve P-384, in OpenSSH's formats.
    """
    public = path.with_name(f"{path.name}.pub")
    if public.exists():
        raise ConfigurationError(f"{public} exists and is not overwritten. Move it away to make a new key pair.")
    key = ec.generate_private_key(ec.SECP384R1())
    write_once(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    write_once(public, say_public_key(key.public_key()) + f" {comment}\n".encode(), mode=0o644)
    return public


def open_node_key(path: Path, comment: str) -> ec.EllipticCurvePrivateKey:
    """Return the private key at `path`; makes the pair where there is none, and the public file where that lacks."""
    public = path.with_name(f"{path.name}.pub")
    if not path.exists():
        create_node_key(path, comment)
    key = read_private_key(path)
    if not public.exists():
        write_once(public, say_public_key(key.public_key()) + f" {comment}\n".encode(), mode=0o644)
    return key


def read_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return a site's private key; raises ConfigurationError where the file is none, or not on P-384."""
    try:
        key = load_ssh_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigurationError(f"Cannot read the private key {path}: {error.strerror}. Check the path.") from error
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            f"{path} is not an OpenSSH private key without a password. Restore it from a copy, or move it away and "
            f"make a new one: prostafed-site key {path.name}."
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ConfigurationError(f"{path} is not an ECDSA key on P-384. Make one with `ssh-keygen -t ecdsa -b 384`.")
    return key


def say_public_key(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key as one OpenSSH line without a comment."""
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def read_public_key(path: Path) -> bytes:
    """Return a site's public key as one OpenSSH line without its comment; raises ConfigurationError if it is none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"Cannot read the public key {path}: {error.strerror}. Check the path.") from error
    return say_public_key(parse_public_key(content, str(path)))


def read_public_keys(folder: Path) -> dict[str, str]:
    """Return the public keys NAME.pub of a folder as OpenSSH lines without comments, by name."""
    return {path.stem: read_public_key(path).decode() for path in sorted(folder.glob("*.pub"))}


def say_fingerprint(line: str) -> str:
    """Return a public key, one OpenSSH line, as `ssh-keygen -l` tells it."""
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def parse_public_key(content: bytes, where: str) -> ec.EllipticCurvePublicKey:
    """Return the ECDSA key on P-384 of an OpenSSH line; `where` names its origin in the ConfigurationError."""
    try:
        key = load_ssh_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            f"{where} is not an OpenSSH public key. Ask the site for its file site.key.pub."
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ConfigurationError(f"{where} is not an ECDSA key on P-384. Make one with `ssh-keygen -t ecdsa -b 384`.")
    return key


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Return a signature of `message`."""
    return key.sign(message, ec.ECDSA(SHA384()))


def is_signed(key: ec.EllipticCurvePublicKey, message: bytes, signature: bytes) -> bool:
    """Return whether the holder of `key` has signed `message`."""
    try:
        key.verify(signature, message, ec.ECDSA(SHA384()))
    except InvalidSignature:
        return False
    return True
