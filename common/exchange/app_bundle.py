"""The bundle of a run: what a coordinator names when it starts one. It names the installed release and holds no code.

Flower gives every run a bundle and its hash. Ours is the same for all runs of a release. A site compares the hash with
its own and never fetches, unpacks or imports a bundle.
"""

import hashlib
import json
from importlib.metadata import version

NAME = "prostafed"


def write_bundle() -> bytes:
    """Return the bundle of this release."""
    return json.dumps({"name": NAME, "version": version(NAME)}, sort_keys=True).encode()


def bundle_hash() -> str:
    """Return the SHA-256 of this release's bundle, in hex."""
    return hashlib.sha256(write_bundle()).hexdigest()
