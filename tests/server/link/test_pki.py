import ipaddress
import os
import ssl
import stat
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socketpair

import pytest
from cryptography import x509

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.keys import create_node_key
from prostafed.server.link import pki as pki_module
from prostafed.server.link.certificates import read_hosts
from prostafed.server.link.home import ask_link
from prostafed.server.link.link import create_home, enrol_site
from prostafed.server.link.pki import (
    Pki,
    create_pki,
    describe_certificates,
    issue_server_certificate,
    load_tls,
    reload_tls,
    renew_if_due,
    replace_server_certificate,
)

NOW = datetime.now(UTC).replace(microsecond=0)


def shake_hands(pki: Pki, host: str, authority: Path, context: ssl.SSLContext | None = None) -> bytes:
    """Do a TLS handshake over a socket pair, as a site does with the link; returns the certificate that was shown."""
    server, client = socketpair()
    context = context or load_tls(pki)

    def serve() -> None:
        try:
            context.wrap_socket(server, server_side=True).close()
        except ssl.SSLError:
            server.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ssl.create_default_context(cafile=str(authority)).wrap_socket(client, server_hostname=host) as secure:
            return secure.getpeercert(binary_form=True) or b""
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
        ask_link(home, "status")


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


def created(days_ago: float, folder: Path, *hosts: str) -> Pki:
    return create_pki(folder, hosts, NOW - timedelta(days=days_ago))


def shown(pki: Pki) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pki.server_certificate.read_bytes())


def test_after_800_days_a_link_that_runs_shows_the_next_certificate_and_sites_keep_their_ca(tmp_path: Path) -> None:
    pki = created(800, tmp_path, "fl.example.org", "2001:db8::1")
    authority = tmp_path / "of-a-site.crt"
    authority.write_bytes(pki.ca_certificate.read_bytes())
    context, before = load_tls(pki), shown(pki)
    first = shake_hands(pki, "fl.example.org", authority, context)
    assert renew_if_due(pki, NOW)
    assert shake_hands(pki, "fl.example.org", authority, context) == first, "nothing has been loaded yet"
    reload_tls(context, pki)
    second = shake_hands(pki, "2001:db8::1", authority, context)
    assert second != first
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    after = shown(pki)
    assert x509.load_der_x509_certificate(second) == after
    assert read_hosts(after) == read_hosts(before) == ("localhost", "127.0.0.1", "fl.example.org", "2001:db8::1")
    assert after.not_valid_after_utc == NOW + timedelta(days=825)
    assert after.public_key() != before.public_key()
    assert not renew_if_due(pki, NOW)


@pytest.mark.parametrize(("days_ahead", "renewed"), [(30.5, False), (30, True), (1, True), (-400, True)])
def test_a_certificate_is_renewed_30_days_ahead(tmp_path: Path, days_ahead: float, renewed: bool) -> None:
    pki = created(825 - days_ahead, tmp_path)
    before = pki.server_certificate.read_bytes()
    assert renew_if_due(pki, NOW) is renewed
    assert (pki.server_certificate.read_bytes() != before) is renewed
    assert stat.S_IMODE(pki.server_key.stat().st_mode) == 0o600


def test_an_authority_kept_offline_signs_nothing_and_says_so_30_days_ahead(tmp_path: Path) -> None:
    pki = created(795, tmp_path)
    pki.ca_key.rename(tmp_path / "offline.key")
    assert describe_certificates(pki, NOW - timedelta(days=1)).warnings == ()
    assert not renew_if_due(pki, NOW)
    (warning,) = describe_certificates(pki, NOW).warnings
    assert f"ends on {NOW + timedelta(days=30):%Y-%m-%d}" in warning
    assert "Bring it back and run prostafed-server certificate." in warning
    assert "ended on" in describe_certificates(pki, NOW + timedelta(days=31)).warnings[0]
    with pytest.raises(ConfigurationError, match=r"ca\.key, which signs .* Bring it back"):
        replace_server_certificate(pki, (), NOW)
    shake_hands(pki, "localhost", pki.ca_certificate)
    (tmp_path / "offline.key").rename(pki.ca_key)
    assert renew_if_due(pki, NOW)
    assert describe_certificates(pki, NOW).warnings == ()


def test_no_certificate_outlives_its_authority_whose_end_is_said_a_year_ahead(tmp_path: Path) -> None:
    pki = created(3600, tmp_path)
    assert describe_certificates(pki, NOW - timedelta(days=316)).warnings == ()
    assert renew_if_due(pki, NOW)
    state = describe_certificates(pki, NOW)
    assert state.server_until == state.authority_until == NOW + timedelta(days=50)
    assert "send every site the new ca.crt" in state.warnings[0]
    assert not renew_if_due(pki, NOW + timedelta(days=40)), "the next one would end on the same day"


def test_a_forgotten_name_is_added(tmp_path: Path) -> None:
    pki = create_pki(tmp_path, ["fl.example.org"])
    context = load_tls(pki)
    replace_server_certificate(pki, ["new.example.org", "fl.example.org"], NOW)
    reload_tls(context, pki)
    for host in ("fl.example.org", "new.example.org"):
        shake_hands(pki, host, pki.ca_certificate, context)
    assert describe_certificates(pki, NOW).hosts == ("localhost", "127.0.0.1", "fl.example.org", "new.example.org")
    with pytest.raises(ConfigurationError, match="not a host name"):
        replace_server_certificate(pki, ["fl.example.org:8000"], NOW)


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_a_crash_leaves_a_pair_that_matches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """Killed after so many of the three writes: server.next, server.key, server.crt."""
    pki, left = created(800, tmp_path, "fl.example.org"), writes
    write = pki_module.write_bytes

    def fail(path: Path, content: bytes, mode: int = 0o644) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        write(path, content, mode)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path == pki.next_pair:
            raise KeyboardInterrupt
        with suppress(FileNotFoundError):
            os.unlink(path)

    before = shown(pki)
    with monkeypatch.context() as patch:
        patch.setattr(pki_module, "write_bytes", fail)
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            renew_if_due(pki, NOW)
    shake_hands(pki, "fl.example.org", pki.ca_certificate)
    assert (shown(pki) == before) is (writes == 0)
    assert not pki.next_pair.exists()
    assert renew_if_due(pki, NOW) is (writes == 0)


def test_a_damaged_pair_leaves_a_running_link_as_it_is(tmp_path: Path) -> None:
    pki = create_pki(tmp_path)
    context = load_tls(pki)
    good = pki.server_key.read_bytes()
    for damaged in (b"", create_pki(tmp_path / "other").server_key.read_bytes()):
        pki.server_key.write_bytes(damaged)
        with pytest.raises(ConfigurationError, match=r"not a certificate and its key .* prostafed-server certificate"):
            reload_tls(context, pki)
        shake_hands(pki, "localhost", pki.ca_certificate, context)
    pki.server_key.write_bytes(good)
    pki.server_certificate.write_text("nothing")
    with pytest.raises(ConfigurationError, match="no PEM certificate"):
        renew_if_due(pki, NOW)
    replace_server_certificate(pki, ["fl.example.org"], NOW)
    shake_hands(pki, "fl.example.org", pki.ca_certificate)
