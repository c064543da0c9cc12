"""Key files, written once and readable by their owner alone; a site's key pair, by which the coordinator knows it."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
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
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    write_once(public, line + f" {comment}\n".encode(), mode=0o644)
    return public


def read_public_key(path: Path) -> bytes:
    """Return a site's public key as one OpenSSH line without its comment; raises ConfigurationError if it is none."""
    try:
        key = load_ssh_public_key(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"Cannot read the public key {path}: {error.strerror}. Check the path.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            f"{path} is not an OpenSSH public key. Ask the site for its file site.key.pub."
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ConfigurationError(f"{path} is not an ECDSA key on P-384. Make one with `ssh-keygen -t ecdsa -b 384`.")
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
