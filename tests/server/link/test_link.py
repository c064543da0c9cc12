"""A link lets a hospital join, and renews its certificate while it runs."""

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from prostafed.client.connect.join import join_federation
from prostafed.common.errors import ConfigurationError, RequestError
from prostafed.common.shell.chained_file import read_chained
from prostafed.server.link import link as link_module
from prostafed.server.link.invitations import invite, write_join_file
from prostafed.server.link.link import Link, Listening, open_link, revoke_site

from .knocking import activate, open_fleet, read_key, running_link


def show_certificate(link: Link, address: str) -> x509.Certificate:
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # one that was renewed early is not valid yet
    with context.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host) as secure:
        shown = secure.getpeercert(binary_form=True)
    assert shown
    return x509.load_der_x509_certificate(shown)


def test_a_certificate_is_renewed_while_the_link_runs(tmp_path: Path) -> None:
    with running_link(tmp_path) as (link, address):
        before = show_certificate(link, address)
        link.renew(datetime.now(UTC))
        assert show_certificate(link, address) == before
        link.renew(before.not_valid_after_utc - timedelta(days=29))
        after = show_certificate(link, address)
    assert after.not_valid_after_utc > before.not_valid_after_utc
    assert [line["event"] for line in read_chained(link.home / "door.jsonl")] == ["renewed"]


def test_a_damaged_certificate_does_not_end_a_link(tmp_path: Path) -> None:
    with running_link(tmp_path) as (link, address):
        before = show_certificate(link, address)
        (link.home / "pki" / "server.crt").write_text("nothing")
        link.renew(datetime.now(UTC))
        assert show_certificate(link, address) == before
    assert "no PEM certificate" in (link.home / "logs" / "link.log").read_text()


def test_one_link_at_a_time(tmp_path: Path) -> None:
    with running_link(tmp_path) as (link, _), pytest.raises(ConfigurationError, match="A link already runs"):
        open_link(link.home, Listening("127.0.0.1", 1)).__enter__()


def test_a_hospital_joins_through_the_door_once(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with running_link(tmp_path, "north") as (link, address):
        file = tmp_path / "west.join"
        write_join_file(file, invite(link.home, "west", address, 7, now))
        for _ in range(2):  # a lost answer can be asked for again
            joined = join_federation(file, tmp_path / "west", None, now)
        key = read_key(joined.site_file.parent / "west.key")
        with open_fleet(tmp_path, address, key) as fleet:
            activate(fleet, key)
        with pytest.raises(RequestError, match="does not take this invitation"):
            join_federation(file, tmp_path / "thief", None, now)
        assert {node.name: node.online for node in link.superlink.list_nodes()} == {"north": False, "west": True}

        again = tmp_path / "again.join"
        write_join_file(again, invite(link.home, "west", address, 7, now, replace=True))
        joined = join_federation(again, tmp_path / "new-machine", None, now)
        with open_fleet(tmp_path, address, key) as fleet, pytest.raises(httpx.HTTPStatusError, match="401"):
            activate(fleet, key)
        key = read_key(joined.site_file.parent / "west.key")
        with open_fleet(tmp_path, address, key) as fleet:
            activate(fleet, key)
    lines = read_chained(link.home / "door.jsonl")
    assert [(line["event"], line.get("why", "")) for line in lines] == [
        ("enrolled", ""),
        ("refused", "join: USED"),
        ("revoked", ""),
        ("enrolled", ""),
        ("refused", "no enrolled key"),
    ]


def test_who_knocks_for_years_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_QUIET_S", 0.0)
    monkeypatch.setattr(link_module, "_MOST_OF_ONE", 3)
    monkeypatch.setattr(link_module, "_MOST_A_DAY", 5)
    audit = link_module.Audit(tmp_path / "door.jsonl")
    for client in ("a", "b", "c"):
        for number in range(10):
            audit.note(client, f"GET /{number}", "not served")
    lines = read_chained(tmp_path / "door.jsonl")
    assert [line["client"] for line in lines] == ["a", "a", "a", "b", "b"]
    assert ["more" in line for line in lines] == [False, False, True, False, True]
    audit._day -= timedelta(days=1)
    audit.note("c", "GET /", "not served")
    assert read_chained(tmp_path / "door.jsonl")[-1]["client"] == "c"


def test_a_hospital_that_was_revoked_comes_back_with_its_key_where_it_is_invited_again(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with running_link(tmp_path) as (link, address):
        for time in ("first", "second"):
            file = tmp_path / f"{time}.join"
            write_join_file(file, invite(link.home, "west", address, 7, now))
            joined = join_federation(file, tmp_path / "west", None, now)
            key = read_key(joined.site_file.parent / "west.key")
            with open_fleet(tmp_path, address, key) as fleet:
                activate(fleet, key)
                if time == "first":
                    revoke_site(link.home, "west")
                    with pytest.raises(httpx.HTTPStatusError, match="401"):
                        activate(fleet, key)
        assert [(node.name, node.online) for node in link.superlink.list_nodes()] == [("west", True)]
