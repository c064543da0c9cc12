"""A secret in shares: any `threshold` of them give it, fewer tell nothing (Shamir 1979).

The secret is the constant term of a polynomial with random coefficients over the integers modulo a prime; a share is
its value at a place 1, 2, ... Nothing here notices a wrong share: who combines them knows a hash, or a public key, of
what has to come out.
"""

import secrets
from collections.abc import Mapping

from prostafed.common.errors import MaskError

SECRET_BYTES, SHARE_BYTES = 32, 33
PRIME = 2**256 + 297  # the first above all secrets


def split_secret(secret: bytes, threshold: int, count: int) -> dict[int, bytes]:
    """Return the shares at the places 1 to `count` of a secret of 32 bytes, any `threshold` of which give it."""
    assert len(secret) == SECRET_BYTES
    assert 1 <= threshold <= count
    coefficients = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {place: _evaluate(coefficients, place).to_bytes(SHARE_BYTES, "big") for place in range(1, count + 1)}


def join_shares(shares: Mapping[int, bytes]) -> bytes:
    """Return the secret of which `shares`, by place, are as many as its threshold; of other shares anything comes out.

    Raises MaskError for what is no share, and where no secret of 32 bytes comes out.
    """
    values = {place: int.from_bytes(share, "big") for place, share in shares.items()}
    if any(len(share) != SHARE_BYTES for share in shares.values()) or any(value >= PRIME for value in values.values()):
        raise MaskError(f"A share of a mask is not one of {SHARE_BYTES} bytes below the prime. The round is not added.")
    secret = 0
    for place, value in values.items():  # Lagrange, at 0
        above = below = 1
        for other in values:
            if other != place:
                above = above * other % PRIME
                below = below * (other - place) % PRIME
        secret = (secret + value * above * pow(below, -1, PRIME)) % PRIME
    if secret >= 2 ** (8 * SECRET_BYTES):
        raise MaskError("The shares of a mask do not fit together. The round is not added.")
    return secret.to_bytes(SECRET_BYTES, "big")


def _evaluate(coefficients: list[int], place: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * place + coefficient) % PRIME
    return value
