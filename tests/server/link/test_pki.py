import ipaddress
import ssl
import stat
import threading
from pathlib import Path
from socket import socketpair

import pytest
from cryptography import x509

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.keys import create_node_key
from prostafed.server.link.link import connect, create_home, enrol_site
from prostafed.server.link.pki import Pki, create_pki, issue_server_certificate


def shake_hands(pki: Pki, host: str, authority: Path) -> None:
    """Do a TLS handshake over a socket pair, as a site does with the link."""
    server, client = socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.server_certificate, pki.server_key)

    def serve() -> None:
        try:
            context.wrap_socket(server, server_side=True).close()
        except ssl.SSLError:
            server.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        ssl.create_default_context(cafile=str(authority)).wrap_socket(client, server_hostname=host).close()
    finally:
        client.close()
        thread.join(timeout=10)


def test_sites_that_hold_the_ca_certificate_trust_the_server(tmp_path: Path) -> None:
    pki = create_pki(tmp_path / "pki", ["fl.example.org", "10.1.2.3"])
    for host in ("localhost", "127.0.0.1", "fl.example.org", "10.1.2.3"):
        shake_hands(pki, host, pki.ca_certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(pki, "other.example.org", pki.ca_certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(pki, "localhost", create_pki(tmp_path / "other").ca_certificate)


def test_private_keys_are_private(tmp_path: Path) -> None:
    pki = create_pki(tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"ca.key": 0o600, "server.key": 0o600, "ca.crt": 0o644, "server.crt": 0o644}
    certificate = x509.load_pem_x509_certificate(pki.server_certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]


def test_a_renewed_certificate_is_trusted_with_the_same_ca(tmp_path: Path) -> None:
    pki = create_pki(tmp_path)
    with pytest.raises(ConfigurationError, match="exists and is not overwritten"):
        issue_server_certificate(pki, ["new.example.org"])
    pki.server_key.rename(tmp_path / "old.key")
    pki.server_certificate.rename(tmp_path / "old.crt")
    issue_server_certificate(pki, ["new.example.org"])
    shake_hands(pki, "new.example.org", pki.ca_certificate)


def test_a_wrong_host_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a host name"):
        create_pki(tmp_path / "pki", ["größe.example.org"])
    assert not (tmp_path / "pki").exists()


def test_a_home_is_its_owners_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    create_home(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    with pytest.raises(ConfigurationError, match="exists and is not overwritten"):
        create_home(home)
    with pytest.raises(ConfigurationError, match="No link runs"):
        connect(home)


def test_a_site_is_enrolled_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    north = create_node_key(tmp_path / "north.key", "north")
    enrol_site(home, "north", north)
    assert (home / "sites" / "north.pub").read_text().endswith(" north\n")
    with pytest.raises(ConfigurationError, match="enrolled already, as north"):
        enrol_site(home, "south", north)
    with pytest.raises(ConfigurationError, match="exists and is not overwritten"):
        enrol_site(home, "north", create_node_key(tmp_path / "other.key", "north"))
    with pytest.raises(ConfigurationError, match="not a site name"):
        enrol_site(home, "../north", north)
