"""Checks of the way to the coordinator: its certificate authority, name, port, proxy and TLS."""

import http.client
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from prostafed.client.connect.certificates import check_authority, explain_refusal
from prostafed.client.preflight.records import Remark, Situation
from prostafed.client.site.site_file import Server

TIMEOUT_S = 10.0


def check_certificate(situation: Situation) -> Iterator[Remark]:
    """The coordinator's certificate authority, a file at the site."""
    server = situation.site.server
    if server is None:  # said by check_coordinator
        return
    found = check_authority(server.root_certificates, situation.now)
    yield Remark(found.text, found.fix)


def check_coordinator(situation: Situation) -> Iterator[Remark]:
    """Whether the coordinator answers, and with a certificate of its authority."""
    server = situation.site.server
    if server is None:
        fix = "Ask the coordinator for a join file, and run prostafed-site join FILE."
        yield Remark("The site file names no coordinator yet.", fix)
        return
    host, _, port = server.address.rpartition(":")
    if not host or not port.isdigit():
        yield Remark("The coordinator's address is not host:port.", 'Correct it, e.g. address = "fl.example.org:8000".')
        return
    proxy = find_proxy(host)
    way = " through the proxy that https_proxy names" if proxy else ""
    try:
        plain = _connect(host, int(port), proxy)
    except socket.gaierror:
        yield Remark(f"The name of {'the proxy' if proxy else 'the coordinator'} is not known here.", _NAME_FIX)
        return
    except (OSError, http.client.HTTPException) as error:
        yield Remark(f"The coordinator cannot be reached{way}: {_reason(error)}.", _reach_fix(port, proxy))
        return
    yield _greet(plain, host, server, way)


def find_proxy(host: str) -> tuple[str, int] | None:
    """Return (host, port) of the HTTP proxy that https_proxy names for `host`, None where none is to be used."""
    url = getproxies().get("https", "")
    if not url or proxy_bypass(host):
        return None
    parts = urlsplit(url if "//" in url else f"http://{url}")
    return (parts.hostname, parts.port or 3128) if parts.hostname else None


_NAME_FIX = "Check the spelling in the site file, and ask IT whether this machine may resolve outside names."


def _connect(host: str, port: int, proxy: tuple[str, int] | None) -> socket.socket:
    if proxy is None:
        return socket.create_connection((host.strip("[]"), port), timeout=TIMEOUT_S)
    tunnel = http.client.HTTPConnection(*proxy, timeout=TIMEOUT_S)
    tunnel.set_tunnel(host, port)
    tunnel.connect()
    return tunnel.sock


def _greet(plain: socket.socket, host: str, server: Server, way: str) -> Remark:
    try:
        context = ssl.create_default_context(cafile=server.root_certificates)
    except (OSError, ssl.SSLError):
        plain.close()
        return Remark(f"The coordinator's port is open{way}; TLS cannot be tried.", "Put ca.crt in its place first.")
    context.set_alpn_protocols(["h2"])  # what gRPC speaks
    try:
        with context.wrap_socket(plain, server_hostname=host.strip("[]")) as secure:
            version = secure.version()
    except ssl.SSLCertVerificationError as error:
        wrong, fix = explain_refusal(error)
        return Remark(f"The coordinator's certificate {wrong}.", fix)
    except (OSError, ssl.SSLError):
        fix = "Ask the coordinator whether its link runs with TLS on this port, and IT whether the firewall cuts TLS."
        return Remark(f"The coordinator's port is open{way}, but does not speak TLS.", fix)
    return Remark(f"The coordinator answers{way}, over {version} and with a certificate of its authority.")


def _reach_fix(port: str, proxy: tuple[str, int] | None) -> str:
    if proxy:
        return f"Ask IT to let the proxy CONNECT to port {port}, or to list the coordinator in no_proxy."
    return f"Ask IT to allow outgoing TCP to port {port}, and the coordinator whether its link is up."


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:.0f} s"
    return "the connection was refused" if isinstance(error, ConnectionRefusedError) else "the connection failed"
