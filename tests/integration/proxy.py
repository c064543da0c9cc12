"""A hospital's proxies, as a program: CONNECT without a login, with one, and one that opens TLS.

python proxy.py FOLDER HOST LOGIN PLAIN_PORT LOGIN_PORT OPENING_PORT: FOLDER/ca.crt is the authority of the proxy that
opens TLS, HOST is what that one has a certificate for.
"""

import asyncio
import ssl
import sys
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

from prostafed.server.link.pki import Pki, create_pki, load_tls

REFUSED = b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="hospital"\r\n\r\n'
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


async def listen(port: int, login: str, tls: ssl.SSLContext | None) -> asyncio.Server:
    """Serve at a port; a `login` is asked for where there is one, and TLS is opened where `tls` is given."""
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if login and b"Basic " + b64encode(login.encode()) not in head:
                writer.write(REFUSED)
            else:
                host, _, asked = head.split()[1].decode().rpartition(":")
                there = await asyncio.open_connection(host.strip("[]"), int(asked), ssl=anyone if tls else None)
                writer.write(CONNECTED)
                if tls:
                    await writer.start_tls(tls)
                await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer))
        writer.close()

    return await asyncio.start_server(connect, "", port)


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()


async def main(folder: str, host: str, login: str, *ports: str) -> None:
    pki = Pki(Path(folder))
    tls = load_tls(pki if pki.server_certificate.exists() else create_pki(pki.folder, (host,)))
    kinds: list[tuple[str, ssl.SSLContext | None]] = [("", None), (login, None), ("", tls)]
    servers = [await listen(int(port), *kind) for port, kind in zip(ports, kinds, strict=True)]
    print("Ready", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
