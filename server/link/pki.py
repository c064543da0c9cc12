"""The coordinator's own certificate authority and the server certificate it issues: EC P-384, no third party.

The sites need ca.crt and nothing else. ca.key issues the next server certificate; who has it can pose as the server.
"""

import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.keys import write_once
from prostafed.common.shell.processes import LOOPBACK

_CA_DAYS = 3650
_SERVER_DAYS = 825
_CLOCK_SKEW = timedelta(hours=1)  # of sites whose clocks run behind


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
        """What the SuperLink shows."""
        return self.folder / "server.crt"

    @property
    def server_key(self) -> Path:
        """What the SuperLink proves it with."""
        return self.folder / "server.key"


def create_pki(folder: Path, hosts: Sequence[str] = ()) -> Pki:
    """Write a certificate authority and a server certificate for `hosts`; raises ConfigurationError if one exists."""
    pki = Pki(folder)
    _general_names(hosts)  # a wrong host is found before anything is written
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "prostafed authority")])
    usage = _key_usage(digital_signature=False, key_cert_sign=True, crl_sign=True)
    certificate = (
        _begin(name, name, key.public_key(), key.public_key(), _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, SHA384())
    )
    write_once(pki.ca_key, _private_pem(key))
    write_once(pki.ca_certificate, certificate.public_bytes(Encoding.PEM), mode=0o644)
    issue_server_certificate(pki, hosts)
    return pki


def issue_server_certificate(pki: Pki, hosts: Sequence[str]) -> None:
    """Write a server key and a certificate for localhost, 127.0.0.1 and `hosts` (names or addresses), valid 825 days.

    To renew it, move server.key and server.crt away first; the sites keep the ca.crt they have.
    """
    authority = x509.load_pem_x509_certificate(pki.ca_certificate.read_bytes())
    authority_key = load_pem_private_key(pki.ca_key.read_bytes(), password=None)
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(
            f"{pki.ca_key} is not the EC key prostafed writes. Make an authority in another folder."
        )
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "prostafed server")])
    certificate = (
        _begin(name, authority.subject, key.public_key(), authority_key.public_key(), _SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True, key_cert_sign=False, crl_sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_general_names(hosts)), critical=False)
        .sign(authority_key, SHA384())
    )
    write_once(pki.server_key, _private_pem(key))
    write_once(pki.server_certificate, certificate.public_bytes(Encoding.PEM), mode=0o644)


def load_tls(pki: Pki) -> ssl.SSLContext:
    """Return how the door proves itself: TLS 1.2 or later, with the server certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pki.server_certificate, pki.server_key)
    return context


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    days: int,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _key_usage(*, digital_signature: bool, key_cert_sign: bool, crl_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    return [_general_name(host) for host in dict.fromkeys(["localhost", LOOPBACK, *hosts])]


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise ConfigurationError(
            f"{host!r} is not a host name or an IP address. Give names in ASCII, e.g. fl.example.org."
        ) from error


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
