"""What comes between a site and its coordinator: network, proxy, TLS, clock, key. Each is one sentence.

Answers are bounded in size before they are read.
"""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx

from prostafed.client.connect.certificates import explain_refusal
from prostafed.client.connect.clock import read_skew_s, say_time
from prostafed.common.errors import ProstafedError

MOST_AT_ONCE = 32 << 20  # bytes of one answer
_CLOCK = "clock"  # what the door says to a site whose clock is off


class UnreachableError(ProstafedError):
    """The coordinator does not answer, or what answers is none: to be tried again."""


class RefusedError(ProstafedError):
    """The coordinator knows this site's key not, or not any more."""


class RunOverError(ProstafedError):
    """The run of a message has ended, or the message is not waited for any more."""


class TooLargeError(ProstafedError):
    """A request is larger than the site file allows."""

    code = "CONFIGURATION"


class _Bounded(httpx.SyncByteStream):
    """The body of an answer, up to MOST_AT_ONCE bytes."""

    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        left = MOST_AT_ONCE
        for part in self._stream:
            left -= len(part)
            if left < 0:
                raise httpx.DecodingError("too long")
            yield part

    def close(self) -> None:
        self._stream.close()


def bound(response: httpx.Response) -> None:
    """Let the body of an answer end with an error after MOST_AT_ONCE bytes; one that is packed is refused at once."""
    if response.headers.get("content-encoding", "identity") != "identity":  # it could be of any size unpacked
        raise httpx.DecodingError("packed")
    assert isinstance(response.stream, httpx.SyncByteStream)
    response.stream = _Bounded(response.stream)


def read_clock(response: httpx.Response) -> UnreachableError | None:
    """Return the error that a refusal stands for where it is about this machine's clock."""
    if response.text.strip() != _CLOCK:
        return None
    ahead_s = read_skew_s(response.headers.get("date", ""), datetime.now(UTC))
    by = f"{say_time(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'}" if ahead_s else "ahead of or behind"
    return UnreachableError(f"The clock of this machine is {by} the coordinator's. Set it, best by NTP.")


def say_why(error: BaseException) -> str:
    """Return in one sentence or two why the coordinator was not reached, and what to do."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            wrong, fix = explain_refusal(cause)
            return f"The coordinator's certificate {wrong}. {fix}"
        if isinstance(cause, ssl.SSLError):
            return (
                "The coordinator's port does not speak TLS. Ask it whether it runs, and IT whether a firewall cuts TLS."
            )
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ProxyError):
        return "The proxy that HTTPS_PROXY names does not let this site through. Ask IT for its address and login."
    if isinstance(error, httpx.DecodingError):
        return "What answers at the coordinator's address is no coordinator. Check address, and the proxy."
    if isinstance(error, httpx.TimeoutException):
        return "The coordinator does not answer in time. It is tried again."
    return "The coordinator cannot be reached. It is tried again."
