"""What a coordinator and a hospital say to each other before the hospital is known: the join file, and what is sent
with its code to /v1/join. No torch here.
"""

from datetime import datetime
from urllib.parse import urlsplit

from pydantic import Field

from prostafed.common.shell.configuration import Section

JOIN_PATH = "/v1/join"
MOST_BYTES = 4096  # of a request and of its answer
DEFAULT_PORT = 8000
NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,40}$"
CODE_PATTERN = r"^[A-Za-z0-9_-]{32}$"


class JoinFile(Section):
    """What the coordinator hands to one hospital: where it answers, how to know it, and a code that works once."""

    release: str = Field(description="the coordinator's release of prostafed")
    address: str = Field(max_length=300, description="host:port that the coordinator answers at")
    name: str = Field(pattern=NAME_PATTERN, description="the site's name: lower case letters, digits, hyphens")
    code: str = Field(pattern=CODE_PATTERN, description="the code, 32 characters")
    until: datetime = Field(description="when the code ends")
    authority: str = Field(max_length=20000, description="the coordinator's CA certificate, PEM")


class JoinRequest(Section):
    """What a hospital sends: the code, the public half of the key it has made, and a proof that it holds the key."""

    name: str = Field(pattern=NAME_PATTERN)
    code: str = Field(pattern=CODE_PATTERN)
    public_key: str = Field(max_length=400)  # one OpenSSH line without a comment
    proof: str = Field(pattern=r"^[0-9a-f]{2,240}$")  # signature of `proof_message`


class JoinAnswer(Section):
    """What the coordinator answers a hospital that it has enrolled."""

    name: str


def proof_message(name: str, code: str, public_key: str) -> bytes:
    """Return what a hospital signs with its key to show that it holds it."""
    return f"prostafed join\n{name}\n{code}\n{public_key}\n".encode()


def split_address(address: str) -> tuple[str, int]:
    """Return (host, port) of HOST[:PORT], the port 8000 where none is named, an IPv6 address in brackets; raises
    ValueError where it is none.
    """
    parts = urlsplit(f"//{address}")
    host, port = parts.hostname, parts.port
    if not host or parts.path or parts.query or parts.fragment or "@" in parts.netloc or not host.isascii():
        raise ValueError(address)
    return host, DEFAULT_PORT if port is None else port


def join_address(host: str, port: int) -> str:
    """Return host:port as `split_address` reads it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
