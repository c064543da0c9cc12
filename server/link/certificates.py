"""An authority's certificate and the server certificates it signs, as bytes: EC P-384, X.509, no files and no clock."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from prostafed.common.errors import ConfigurationError

_CLOCK_SKEW = timedelta(hours=1)  # of sites whose clocks run behind


@dataclass(frozen=True)
class Authority:
    """Who signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_authority(now: datetime, until: datetime) -> Authority:
    """Return a new authority that signs itself."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "prostafed authority")])
    usage = _key_usage(digital_signature=False, key_cert_sign=True, crl_sign=True)
    builder = (
        _begin(name, key.public_key(), now, until)
        .issuer_name(name)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return Authority(builder.sign(key, SHA384()), key)


def make_server_pair(
    authority: Authority, names: Iterable[x509.GeneralName], now: datetime, until: datetime
) -> tuple[bytes, bytes]:
    """Return a new private key and its certificate for `names`, both PEM."""
    key = ec.generate_private_key(ec.SECP384R1())
    issuer = authority.key.public_key()
    builder = (
        _begin(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "prostafed server")]), key.public_key(), now, until)
        .issuer_name(authority.certificate.subject)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True, key_cert_sign=False, crl_sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return private_pem(key), builder.sign(authority.key, SHA384()).public_bytes(Encoding.PEM)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PKCS 8 without a password."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names and addresses a server certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress))


def name_host(host: str) -> x509.GeneralName:
    """Return a host's name or address as a certificate names it; raises ConfigurationError where it is none."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        if not host or set(host) & set(" /:[]"):  # a port or a scheme in it matches no host, ever
            raise ValueError
        return x509.DNSName(host)
    except ValueError as error:
        raise ConfigurationError(
            f"{host!r} is not a host name or an IP address. Give names in ASCII, e.g. fl.example.org."
        ) from error


def _begin(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
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
