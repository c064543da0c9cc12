"""An invitation enrols one key, once, until a date; who asks with anything else learns nothing."""

import json
import stat
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from prostafed.common.errors import ConfigurationError, JoinError
from prostafed.common.exchange.joining import JoinFile, proof_message
from prostafed.common.shell.configuration import read_toml
from prostafed.common.shell.keys import say_public_key, sign
from prostafed.server.link.invitations import invite, redeem, write_join_file
from prostafed.server.link.pki import create_pki
from tests.programs import call

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOST = "fl.example.org"


@dataclass(frozen=True)
class Home:
    """A coordinator's home, and which keys were enrolled in it."""

    folder: Path
    calls: list[tuple[str, bytes]] = field(default_factory=list)

    def enrol(self, name: str, key: bytes) -> None:
        self.calls.append((name, key))
        (self.folder / "sites").mkdir(exist_ok=True)
        (self.folder / "sites" / f"{name}.pub").write_bytes(key + b" comment\n")

    def invite(self, name: str = "north", days: int = 7, replace: bool = False) -> JoinFile:
        return invite(self.folder, name, HOST, days, NOW, replace=replace)

    def redeem(self, body: bytes, now: datetime = NOW) -> bytes:
        return redeem(self.folder, body, now, self.enrol)

    def refuse(self, body: bytes, now: datetime = NOW) -> str:
        """Returns the reason; the sentence is always the same one, and nobody is enrolled."""
        before = len(self.calls)
        with pytest.raises(
            JoinError, match=r"^This invitation is not valid\. Ask the coordinator for a new one\.$"
        ) as e:
            self.redeem(body, now)
        assert len(self.calls) == before
        return e.value.reason


@pytest.fixture(scope="session")
def pki_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_pki(tmp_path_factory.mktemp("home") / "pki", [HOST, "2001:db8::1"], NOW).folder


@pytest.fixture
def home(tmp_path: Path, pki_folder: Path) -> Home:
    (tmp_path / "pki").symlink_to(pki_folder)
    return Home(tmp_path)


def make_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def ask(join: JoinFile, key: ec.EllipticCurvePrivateKey, **changes: Any) -> bytes:
    """The body that a site with `key` sends."""
    line = say_public_key(key.public_key()).decode()
    fields = {"name": join.name, "code": join.code, "public_key": line} | changes
    message = proof_message(fields["name"], fields["code"], fields["public_key"])
    return json.dumps({"proof": sign(key, message).hex()} | fields).encode()


def test_a_code_enrols_one_key_and_the_same_key_may_ask_again(home: Home) -> None:
    join, north = home.invite(), make_key()
    answer = home.redeem(ask(join, north))
    assert json.loads(answer) == {"name": "north"}
    assert home.redeem(ask(join, north)) == answer
    assert home.calls == [("north", say_public_key(north.public_key()))], "enrolled once"
    assert home.refuse(ask(join, make_key())) == "USED"
    assert home.refuse(ask(join, north), NOW + timedelta(days=7)) == "EXPIRED"


def test_only_a_digest_of_the_code_is_kept(home: Home) -> None:
    join = home.invite()
    assert len(join.code) == 32
    kept = [path for path in (home.folder / "invitations").rglob("*") if join.code in path.read_text()]
    assert not kept
    assert home.invite().code != join.code
    assert home.refuse(ask(join, make_key())) == "WRONG_CODE", "the earlier one has ended"


@pytest.mark.parametrize(("later", "enrolled"), [(timedelta(days=7, seconds=-1), True), (timedelta(days=7), False)])
def test_a_code_ends(home: Home, later: timedelta, enrolled: bool) -> None:
    body = ask(home.invite(), make_key())
    if enrolled:
        home.redeem(body, NOW + later)
    else:
        assert home.refuse(body, NOW + later) == "EXPIRED"


def test_wrong_codes_keep_no_hospital_out(home: Home) -> None:
    join, north = home.invite(), make_key()
    assert {home.refuse(ask(join, north, code="x" * 32)) for _ in range(20)} == {"WRONG_CODE"}
    home.redeem(ask(join, north))


def test_a_key_that_somebody_else_holds_is_not_enrolled(home: Home) -> None:
    join = home.invite()
    theirs = say_public_key(make_key().public_key()).decode()
    assert home.refuse(ask(join, make_key(), public_key=theirs)) == "WRONG_PROOF"
    other = home.invite("south")
    proof = json.loads(ask(other, key := make_key()))["proof"]
    assert home.refuse(ask(join, key, proof=proof)) == "WRONG_PROOF", "of another invitation"
    home.redeem(ask(join, key))


def test_of_two_at_once_one_is_enrolled(home: Home) -> None:
    join = home.invite()
    keys = [make_key() for _ in range(8)]
    start, ended = threading.Barrier(len(keys)), []

    def run(key: ec.EllipticCurvePrivateKey) -> None:
        body = ask(join, key)
        start.wait()
        try:
            home.redeem(body)
            ended.append("enrolled")
        except JoinError as error:
            ended.append(error.reason)

    threads = [threading.Thread(target=run, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["USED"] * 7 + ["enrolled"]
    assert len(home.calls) == 1


def test_where_enrolling_fails_the_same_key_may_ask_again_and_no_other(home: Home) -> None:
    join, north = home.invite(), make_key()

    def fail(name: str, key: bytes) -> None:
        raise OSError("killed")

    with pytest.raises(OSError, match="killed"):
        redeem(home.folder, ask(join, north), NOW, fail)
    assert home.refuse(ask(join, make_key())) == "USED"
    home.redeem(ask(join, north))
    assert len(home.calls) == 1


def test_a_site_revoked_since_does_not_come_back_with_its_old_code(home: Home) -> None:
    join, north = home.invite(), make_key()
    home.redeem(ask(join, north))
    (home.folder / "sites" / "north.pub").unlink()
    assert home.refuse(ask(join, north)) == "USED"


def test_a_name_that_is_enrolled_is_replaced_on_request_only(home: Home) -> None:
    first, second = make_key(), make_key()
    home.redeem(ask(home.invite(), first))
    with pytest.raises(ConfigurationError, match=r"north is enrolled already\. With --replace"):
        home.invite()
    home.redeem(ask(home.invite(replace=True), second))
    assert [key for _, key in home.calls] == [say_public_key(key.public_key()) for key in (first, second)]
    south = home.invite("south")
    assert home.refuse(ask(south, second)) == "KEY_TAKEN"
    home.enrol("south", say_public_key(make_key().public_key()))  # by hand, meanwhile
    assert home.refuse(ask(south, make_key())) == "USED"


def test_nobody_of_that_name_is_invited(home: Home) -> None:
    join = home.invite()
    assert home.refuse(ask(join, make_key(), name="south")) == "UNKNOWN"
    assert sorted(path.name for path in (home.folder / "invitations").iterdir()) == ["lock", "north.json"]


FIELDS = ("name", "code", "public_key", "proof", "more")
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda each: st.lists(each, max_size=3))
KEY = make_key()


@given(st.dictionaries(st.sampled_from(FIELDS), JSON | st.text(max_size=50), min_size=1))
def test_hostile_fields_are_refused(fields: dict[str, Any]) -> None:
    join = JoinFile(release="", address="", name="north", code="x" * 32, until=NOW, authority="")
    body = json.dumps(json.loads(ask(join, KEY)) | fields).encode()
    with pytest.raises(JoinError) as error:
        redeem(Path("/nowhere"), body, NOW, lambda name, key: pytest.fail("enrolled"))
    assert error.value.reason == "MALFORMED" or set(fields) == {"name"}  # by chance, the name of nobody


@given(st.binary(max_size=300) | st.sampled_from([b"[" * 4000, b"9" * 4096, b" " * 5000, b'"\\ud800"', b"NaN", b"{}"]))
def test_hostile_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(JoinError) as error:
        redeem(Path("/nowhere"), body, NOW, lambda name, key: pytest.fail("enrolled"))
    assert error.value.reason == "MALFORMED"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../north"}, {"name": "North"}, {"name": "north\n"}, {"name": "north.json"}, {"name": ""},
        {"code": "short"}, {"public_key": "ecdsa-sha2-nistp384 AAAA"}, {"proof": "abc"}, {"proof": "zz"},
    ],
)  # fmt: skip
def test_one_field_that_is_none_is_refused(home: Home, change: dict[str, str]) -> None:
    assert home.refuse(ask(home.invite(), make_key(), **change)) == "MALFORMED"


def test_a_key_in_another_form_or_of_another_kind_is_refused(home: Home) -> None:
    join, key = home.invite(), make_key()
    line = say_public_key(key.public_key()).decode()
    assert home.refuse(ask(join, key, public_key=f"{line} comment")) == "MALFORMED"
    small = ec.generate_private_key(ec.SECP256R1())
    assert home.refuse(ask(join, small)) == "MALFORMED"
    home.redeem(ask(join, key))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("fl.example.org", "fl.example.org:8000"), ("FL.example.org:443", "fl.example.org:443"),
        ("[2001:0db8::1]:443", "[2001:db8::1]:443"), ("127.0.0.1", "127.0.0.1:8000"),
    ],
)  # fmt: skip
def test_an_address_is_one_the_certificate_is_for(home: Home, address: str, expected: str) -> None:
    assert invite(home.folder, "north", address, 7, NOW).address == expected


@pytest.mark.parametrize("address", ["", "https://fl.example.org", "fl.example.org:x", "fl.example.org/x", "a@b:1"])
def test_what_is_no_address_is_one_sentence(home: Home, address: str) -> None:
    with pytest.raises(ConfigurationError, match="expected a name or an address with or without a port"):
        invite(home.folder, "north", address, 7, NOW)


def test_a_host_that_was_forgotten_is_named_with_the_remedy(home: Home) -> None:
    with pytest.raises(ConfigurationError, match=r"not for new\.example\.org\..* certificate --host new\.example\.org"):
        invite(home.folder, "north", "new.example.org:443", 7, NOW)
    with pytest.raises(ConfigurationError, match="not a site name"):
        invite(home.folder, "../north", HOST, 7, NOW)
    assert not (home.folder / "invitations").exists()


def test_a_join_file_is_its_owners_alone_and_says_what_was_made(home: Home) -> None:
    join = home.invite()
    write_join_file(path := home.folder / "north.join", join)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_toml(path, JoinFile) == join
    with pytest.raises(ConfigurationError, match="exists and is not overwritten"):
        write_join_file(path, join)


def test_three_commands_of_the_coordinator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call("prostafed-server", "init")
    refused = call("prostafed-server", "invite", "north", "--host", HOST)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "prostafed-server certificate --host fl.example.org" in refused.err
    issued = call("prostafed-server", "certificate", "--host", HOST, "--json")
    assert issued.json["hosts"] == ["localhost", "127.0.0.1", HOST]
    made = call("prostafed-server", "invite", "north", "--host", f"{HOST}:443", "--days", "3", "--json")
    join = read_toml(tmp_path / "north.join", JoinFile)
    assert made.json == {
        "join_file": "north.join", "name": "north", "address": f"{HOST}:443", "until": join.until.isoformat()
    }  # fmt: skip
    assert join.code not in made.out + made.err
    again = call("prostafed-server", "invite", "north", "--host", HOST)
    assert "exists and is not overwritten" in again.err
    more = call("prostafed-server", "invite", "north", "--host", HOST, "--out", "second.join")
    assert "It works once, until" in more.out
