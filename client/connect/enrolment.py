"""The one request of a hospital that joins, and in words why it failed: by which of name, network, TLS, proxy, code."""

import errno
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from prostafed.client.connect.certificates import explain_refusal
from prostafed.client.connect.clock import read_skew_s, say_skew
from prostafed.common.errors import ConfigurationError, RequestError
from prostafed.common.exchange.joining import (
    JOIN_PATH,
    MOST_BYTES,
    JoinAnswer,
    JoinFile,
    JoinRequest,
    proof_message,
)
from prostafed.common.shell.keys import say_public_key, sign

TIMEOUT_S = 30.0
_SIGNED_BY_ANOTHER = (18, 19, 20)  # OpenSSL's reasons
_NO_WAY = (
    "There is no way from this machine to {address}. If the hospital has a proxy, name it: "
    "HTTPS_PROXY=http://HOST:PORT. Else ask IT whether outgoing TCP to this port is allowed."
)
_NO_CONNECTION = {
    errno.ECONNREFUSED: "Nothing listens at {address}. Ask the coordinator whether its link runs, and IT whether "
    "outgoing TCP to this port is allowed.",
    errno.EHOSTUNREACH: _NO_WAY,
    errno.ENETUNREACH: _NO_WAY,
}
_STATUS = {
    403: "The coordinator does not take this invitation: it was used with another key, has ended, or another one took "
    "its place. Ask the coordinator for a new one: prostafed-server invite {name}.",
    413: "Something on the way takes no request of this size. Ask IT about the proxy.",
    429: "The coordinator was asked too often. Wait a minute, and run the command again.",
}


def ask_to_enrol(join: JoinFile, key: ec.EllipticCurvePrivateKey, authorities: str) -> str:
    """Ask the coordinator to enrol `key`; only a server that one of `authorities`, PEM, has signed is asked. Proxies
    are those of HTTPS_PROXY. Returns a sentence on this machine's clock where that is wrong, else "".

    Raises RequestError or ConfigurationError, with what to do.
    """
    line = say_public_key(key.public_key()).decode()
    proof = sign(key, proof_message(join.name, join.code, line)).hex()
    request = JoinRequest(name=join.name, code=join.code, public_key=line, proof=proof)
    status, content, date = _post(join.address, request.model_dump_json().encode(), authorities)
    skew = say_skew(read_skew_s(date, datetime.now(UTC)))
    if status == 200 and _is_answer(content, join.name):
        return skew
    said = _STATUS.get(
        status,
        f"What answers at {join.address} does not take invitations (status {status}). Ask the coordinator whether its "
        f"link runs, and whether its proxy passes POST {JOIN_PATH}.",
    )
    raise RequestError(" ".join([said.format(name=join.name), *([skew] if skew else [])]))


def _post(address: str, body: bytes, authorities: str) -> tuple[int, bytes, str]:
    """Return status, body and Date header of the answer; of a body that is longer than an answer, only the start."""
    try:
        context = ssl.create_default_context(cadata=authorities)
        with (
            httpx.Client(verify=context, timeout=TIMEOUT_S) as client,
            client.stream("POST", f"https://{address}{JOIN_PATH}", content=body) as response,
        ):
            content = b""
            for chunk in response.iter_raw(MOST_BYTES):
                content += chunk
                if len(content) > MOST_BYTES:
                    break
            return response.status_code, content, response.headers.get("date", "")
    except httpx.TransportError as error:
        raise RequestError(_say_why(error, address)) from error
    except (httpx.InvalidURL, ImportError, ValueError) as error:
        raise ConfigurationError(
            "The proxy in HTTPS_PROXY or ALL_PROXY is none that can be used. Expected http://HOST:PORT, with "
            "USER:PASSWORD@ before the host where it asks for a login."
        ) from error


def _is_answer(content: bytes, name: str) -> bool:
    try:
        return JoinAnswer.model_validate_json(content).name == name
    except ValidationError:
        return False


def _say_why(error: httpx.TransportError, address: str) -> str:
    """Return in a sentence or two why the coordinator was not reached, and what to do."""
    if isinstance(error, httpx.ProxyError):
        return (
            f"The proxy of HTTPS_PROXY does not let this machine through to {address} ({error}). Ask IT to allow it; "
            "where it asks for a login, set HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT."
        )
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            wrong, fix = explain_refusal(cause)
            if cause.verify_code in _SIGNED_BY_ANOTHER:
                fix = (
                    "Where a proxy of the hospital opens TLS, name the certificate it signs with: --proxy-ca FILE. "
                    "Else ask the coordinator for a new join file."
                )
            clock = f"This machine's clock says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. " if "clock" in fix else ""
            return f"The certificate that {address} shows {wrong}. {clock}{fix}"
        if isinstance(cause, ssl.SSLError):
            return (
                f"What answers at {address} does not speak TLS. Ask the coordinator whether its link runs there, and "
                "IT whether a firewall cuts TLS."
            )
        if isinstance(cause, socket.gaierror):
            return f"The name of {address} is not known here. Ask IT whether this machine may resolve outside names."
        if isinstance(cause, OSError) and cause.errno in _NO_CONNECTION:
            return _NO_CONNECTION[cause.errno].format(address=address)
    reason = f"within {TIMEOUT_S:.0f} s" if isinstance(error, httpx.TimeoutException) else "to the end"
    return (
        f"{address} did not answer {reason}. Run the command again; if it goes on, ask IT whether outgoing TCP to this "
        "port is allowed."
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
