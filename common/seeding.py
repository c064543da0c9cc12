"""Seeds: everything random derives from (study seed, stage, round, site, purpose), so that a rerun gives the same
numbers.
"""

import hashlib


def derive_seed(base: int, *parts: str | int) -> int:
    """Return a seed in [0, 2**63) that depends on `base` and on every part, in order.

    SHA-256 keeps neighbouring seeds unrelated and gives the same value on every machine and Python version.
    """
    text = "\x1f".join([str(base), *(str(part) for part in parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
