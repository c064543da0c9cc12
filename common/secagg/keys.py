"""The keys of one session: what two sites have in common, and what only the receiver of a share can read.

X25519 gives two sites a common secret (RFC 7748), HKDF makes of it a key for one purpose (RFC 5869), ChaCha20-Poly1305
hides and protects shares (RFC 8439). A key is made for one session and one purpose, so no nonce is used twice.
"""

import hashlib
import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from prostafed.common.errors import MaskError

KEY_BYTES = 32
_NONCE = bytes(12)  # each key seals one text


@dataclass(frozen=True)
class Pair:
    """A key pair of X25519, raw."""

    private: bytes
    public: bytes


def make_pair() -> Pair:
    """Return a new key pair."""
    return open_pair(secrets.token_bytes(KEY_BYTES))


def open_pair(private: bytes) -> Pair:
    """Return the key pair with this private key."""
    return Pair(private, X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw())


def derive_key(secret: bytes, session: str, purpose: str) -> bytes:
    """Return the key of 32 bytes that `secret` gives for a purpose in a session."""
    info = f"prostafed secure aggregation 1|{purpose}".encode()
    return HKDF(SHA256(), KEY_BYTES, salt=bytes.fromhex(session), info=info).derive(secret)


def share_key(private: bytes, public: bytes, session: str, purpose: str) -> bytes:
    """Return the key that the holders of two key pairs have in common; raises MaskError for a public key that is none,
    or gives everybody the same.
    """
    try:
        common = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise MaskError("A site's public key for the round's masks is none of X25519. Nothing was sent.") from error
    return derive_key(common, session, purpose)


def commit(secret: bytes, session: str) -> str:
    """Return what is told of a random secret so that it cannot be another one later."""
    return hashlib.sha256(b"prostafed mask|" + bytes.fromhex(session) + secret).hexdigest()


def seal(text: bytes, key: bytes, about: str) -> bytes:
    """Return `text` as only who has `key` can read it; `about` has to be the same when it is opened."""
    return ChaCha20Poly1305(key).encrypt(_NONCE, text, about.encode())


def unseal(sealed: bytes, key: bytes, about: str) -> bytes:
    """Return what was sealed; raises MaskError where it was changed, or was sealed for another or about something
    else.
    """
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, sealed, about.encode())
    except InvalidTag as error:
        raise MaskError(f"A sealed share ({about.rpartition('|')[2]}) was changed, or is another's.") from error
