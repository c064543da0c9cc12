"""A link on loopback, and who knocks at its door: a site with Flower's own client, or a stranger who holds ca.crt."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from prostafed.common.shell.keys import create_node_key
from prostafed.common.shell.processes import LOOPBACK, find_free_port
from prostafed.server.link.link import Link, Listening, create_home, enrol_site, open_link


@contextmanager
def running_link(folder: Path, *sites: str) -> Iterator[tuple[Link, str]]:
    """Yield a link with these sites enrolled, and its address; their keys are FOLDER/NAME.key."""
    home = folder / "coordinator"
    if not home.exists():
        create_home(home)
    for name in sites:
        enrol_site(home, name, create_node_key(folder / f"{name}.key", name))
    where = Listening(LOOPBACK, find_free_port())
    with open_link(home, where) as link:
        yield link, where.address


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = load_ssh_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def open_fleet(folder: Path, address: str, key: ec.EllipticCurvePrivateKey) -> FleetHttpClient:
    authority = str(folder / "coordinator" / "pki" / "ca.crt")
    return FleetHttpClient.from_server_address(
        address, False, authority, interceptors=[NodeAuthHttpInterceptor(key, key.public_key())]
    )


def activate(fleet: FleetHttpClient, key: ec.EllipticCurvePrivateKey) -> Node:
    pem = public_key_to_bytes(key.public_key())
    answer = fleet.ActivateNode(ActivateNodeRequest(public_key=pem, heartbeat_interval=30))
    return Node(node_id=answer.node_id)


def open_stranger(folder: Path) -> httpx.Client:
    context = ssl.create_default_context(cafile=folder / "coordinator" / "pki" / "ca.crt")
    return httpx.Client(verify=context, trust_env=False)
