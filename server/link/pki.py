"""The files of the coordinator's own certificate authority and of the server certificate it issues; no third party.

The sites need ca.crt and nothing else. ca.key issues the next server certificate; who has it can pose as the server. A
new pair of server.key and server.crt lies in server.next first: a crash leaves two files that belong together, or
server.next, from which whoever needs them next finishes.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.files import holding, write_bytes
from prostafed.common.shell.keys import write_once
from prostafed.common.shell.processes import LOOPBACK
from prostafed.server.link.certificates import (
    Authority,
    make_authority,
    make_server_pair,
    name_host,
    private_pem,
    read_hosts,
)

RENEW_BEFORE = timedelta(days=30)
_CA_DAYS = 3650
_SERVER_DAYS = 825
_AUTHORITY_ENDS = timedelta(days=365)  # every site needs the next ca.crt: a year to hand it out
_BEGIN_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class Pki:
    """The files of the coordinator's keys and certificates."""

    folder: Path

    @property
    def ca_certificate(self) -> Path:
        """What the sites get."""
        return self.folder / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """What never leaves; move it offline between certificates."""
        return self.folder / "ca.key"

    @property
    def server_certificate(self) -> Path:
        """What the link shows."""
        return self.folder / "server.crt"

    @property
    def server_key(self) -> Path:
        """What the link proves it with."""
        return self.folder / "server.key"

    @property
    def next_pair(self) -> Path:
        """A new server.key and server.crt, whole, until both are in their places."""
        return self.folder / "server.next"


@dataclass(frozen=True)
class CertificateState:
    """Until when the certificates hold, for which hosts, and sentences on what a person has to do."""

    hosts: tuple[str, ...]
    server_until: datetime
    authority_until: datetime
    warnings: tuple[str, ...]


def create_pki(folder: Path, hosts: Sequence[str] = (), now: datetime | None = None) -> Pki:
    """Write a certificate authority and a server certificate for `hosts`; raises ConfigurationError if one exists."""
    pki, now = Pki(folder), now or datetime.now(UTC)
    _names(hosts)  # a wrong host is found before anything is written
    authority = make_authority(now, now + timedelta(days=_CA_DAYS))
    write_once(pki.ca_key, private_pem(authority.key))
    write_once(pki.ca_certificate, authority.certificate.public_bytes(Encoding.PEM), mode=0o644)
    issue_server_certificate(pki, hosts, now)
    return pki


def issue_server_certificate(pki: Pki, hosts: Sequence[str], now: datetime | None = None) -> None:
    """Write the first server key and certificate, for localhost, 127.0.0.1 and `hosts` (names or addresses), valid 825
    days; raises ConfigurationError where there is one.
    """
    for path in (pki.server_key, pki.server_certificate):
        if path.exists():
            raise ConfigurationError(f"{path} exists and is not overwritten. Move it away to make a new one.")
    _issue(pki, hosts, now or datetime.now(UTC))


def replace_server_certificate(pki: Pki, hosts: Sequence[str], now: datetime) -> None:
    """Write the next server key and certificate, for the hosts of the last one and `hosts`; the sites keep ca.crt."""
    with holding(pki.folder / "renewal.lock", wait=True):
        _finish(pki)
        try:
            before = read_hosts(_read_certificate(pki.server_certificate))
        except ConfigurationError:
            if not hosts:
                raise
            before = ()
        _issue(pki, (*before, *hosts), now)


def renew_if_due(pki: Pki, now: datetime) -> bool:
    """Write the next server key and certificate, for the same hosts, where the last one ends within 30 days; return
    whether it did. Without ca.key, or where the authority ends as soon, it does not: see `describe_certificates`.

    Raises ConfigurationError where a file is damaged.
    """
    _mend(pki)
    end = _read_certificate(pki.server_certificate).not_valid_after_utc
    if end - now > RENEW_BEFORE or not pki.ca_key.exists() or _server_end(pki, now) - end < timedelta(days=1):
        return False
    replace_server_certificate(pki, (), now)
    return True


def describe_certificates(pki: Pki, now: datetime) -> CertificateState:
    """Return the state of the certificates; raises ConfigurationError where one cannot be read."""
    server, authority = _read_certificate(pki.server_certificate), _read_certificate(pki.ca_certificate)
    until, authority_until = server.not_valid_after_utc, authority.not_valid_after_utc
    warnings = []
    if until - now <= RENEW_BEFORE and not pki.ca_key.exists():
        warnings.append(
            f"The server's certificate {_say_end(until, now)}, and {pki.ca_key}, which signs the next one, is not "
            "there. Bring it back and run prostafed-server certificate."
        )
    if authority_until - now <= _AUTHORITY_ENDS:
        warnings.append(
            f"The certificate authority {_say_end(authority_until, now)}, and no certificate it signed holds longer. "
            f"Move {pki.folder} away, make a new one with prostafed-server init, and send every site the new ca.crt; "
            "their keys stay enrolled."
        )
    if server.not_valid_before_utc > now:
        warnings.append(
            f"The server's certificate begins on {server.not_valid_before_utc:%Y-%m-%d}. Check this machine's clock."
        )
    return CertificateState(read_hosts(server), until, authority_until, tuple(warnings))


def load_tls(pki: Pki) -> ssl.SSLContext:
    """Return what a server needs to speak TLS 1.2 or newer with the pair of `pki`; raises ConfigurationError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    reload_tls(context, pki)
    return context


def reload_tls(context: ssl.SSLContext, pki: Pki) -> None:
    """Show the pair that `pki` holds now in new handshakes; connections go on. Raises ConfigurationError and leaves
    `context` as it is where the pair cannot be used.
    """
    pair = (pki.server_certificate, pki.server_key)
    try:
        _mend(pki)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*pair)  # a pair that fails would spoil `context`
    except OSError:
        _mend(pki)  # another process was writing them, or still is
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*pair)
        except OSError as error:
            raise ConfigurationError(
                f"{pki.server_certificate} and server.key are not a certificate and its key ({error}). Issue new "
                "ones: prostafed-server certificate --host NAME."
            ) from error
    context.load_cert_chain(*pair)


def _issue(pki: Pki, hosts: Sequence[str], now: datetime) -> None:
    names, authority = _names(hosts), _read_authority(pki)
    key, certificate = make_server_pair(authority, names, now, _server_end(pki, now))
    write_bytes(pki.next_pair, key + certificate, mode=0o600)
    _finish(pki)


def _finish(pki: Pki) -> None:
    """Put a new pair into its places."""
    if pki.next_pair.exists():
        key, begin, certificate = pki.next_pair.read_bytes().partition(_BEGIN_CERTIFICATE)
        write_bytes(pki.server_key, key, mode=0o600)
        write_bytes(pki.server_certificate, begin + certificate)
        pki.next_pair.unlink()


def _mend(pki: Pki) -> None:
    """Finish what a process that was killed has begun; wait for one that is at it."""
    if pki.next_pair.exists():
        with holding(pki.folder / "renewal.lock", wait=True):
            _finish(pki)


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    return [name_host(host) for host in dict.fromkeys(["localhost", LOOPBACK, *hosts])]


def _server_end(pki: Pki, now: datetime) -> datetime:
    """When a certificate that is issued now ends: with its authority at the latest."""
    return min(now + timedelta(days=_SERVER_DAYS), _read_certificate(pki.ca_certificate).not_valid_after_utc)


def _say_end(end: datetime, now: datetime) -> str:
    return f"{'ends' if end > now else 'ended'} on {end:%Y-%m-%d}"


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = (error.strerror or "unreadable") if isinstance(error, OSError) else "no PEM certificate"
        raise ConfigurationError(
            f"Cannot read the certificate {path} ({reason}). Restore it from a copy, or make it: prostafed-server init "
            "makes an authority, prostafed-server certificate --host NAME a server certificate."
        ) from error


def _read_authority(pki: Pki) -> Authority:
    try:
        key = load_pem_private_key(pki.ca_key.read_bytes(), password=None)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{pki.ca_key}, which signs server certificates, is not there. Bring it back for this moment."
        ) from error
    except (OSError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{pki.ca_key} is no key that can be read. Restore it from a copy.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(
            f"{pki.ca_key} is not the EC key prostafed writes. Make an authority in another folder."
        )
    return Authority(_read_certificate(pki.ca_certificate), key)
