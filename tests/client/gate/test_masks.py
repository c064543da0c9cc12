"""What a site keeps of masked rounds, what it says again, and whose keys it takes."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from prostafed.client.gate.masks import Desk, answer_masks, check_sum, make_summand
from prostafed.client.site.site_file import Site
from prostafed.common.errors import CheckpointError, DivergedError, MaskError, PeerError, RequestError
from prostafed.common.exchange.kinds import ABOUT_MASKS
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.secagg.records import (
    Agreed,
    AllAgreed,
    AllKeys,
    AllShares,
    Call,
    Offer,
    Parts,
    Shares,
    Survivors,
    digest_identity,
)
from prostafed.common.shell.keys import open_node_key, say_public_key
from prostafed.common.study import Study
from prostafed.common.tensors import Tensors, hash_tensors
from tests.client.tiny_site import BYOL, make_study

SITES, CASES = ("east", "north", "south"), 30
SENT: Tensors = {"encoder.w": np.arange(6, dtype=np.float32).reshape(2, 3) / 10}
TRAINED: Tensors = {"encoder.w": SENT["encoder.w"] + np.float32(0.01)}
DIGEST = hash_tensors(SENT)
MASKED = make_study(BYOL, privacy={"secure_aggregation": True})
PLAIN = make_study(BYOL, round={"compress": "fixed32"})
OPEN = make_study(BYOL)


def open_desk(folder: Path, action: str, said: bytes, site: str = "north", **fields: object) -> Desk:
    """A desk as another process of the site opens it: what it knows it has from the disk."""
    study = fields.pop("study", MASKED)
    assert isinstance(study, Study)
    number = fields.pop("number", 1)
    assert isinstance(number, int)
    peers, run = fields.pop("peers", None), str(fields.pop("run", "run"))
    tensors = SENT if action == "train" else {}
    request = Request(action, run, study.hash(), 1, number, tensors, masks=said)
    place = Site(name=site, memory=folder / site / "memory")
    return Desk(folder / site / "memory" / run / "stage-1", place, study, request, CASES, peers)  # type: ignore[arg-type]


class Server:
    """Asks three sites step by step, and remembers what they said."""

    def __init__(
        self, folder: Path, number: int = 1, session: str = "7a", trained: Tensors = TRAINED, run: str = "run"
    ) -> None:
        self.folder, self.round, self.trained, self.run = folder, number, trained, run
        self.tried = {"number": session * 32, "digest": DIGEST}

    def ask(self, action: str, said: bytes, site: str, peers: Mapping[str, str] | None = None) -> bytes:
        desk = open_desk(self.folder, action, said, site, number=self.round, peers=peers, run=self.run)
        return answer_masks(desk).masks

    def keys(self) -> AllKeys:
        call = Call(**self.tried, enrolled={}).pack()
        offers = [Offer.read(self.ask("keys", call, site)) for site in SITES]
        return AllKeys(**self.tried, keys=tuple(each.keys for each in offers))

    def shares(self) -> AllShares:
        among = self.keys().pack()
        return AllShares(**self.tried, shares=tuple(Shares.read(self.ask("shares", among, site)) for site in SITES))

    def train(self, site: str, mixed: AllShares) -> Reply:
        desk = open_desk(self.folder, "train", mixed.pack(), site, number=self.round, run=self.run)
        check_sum(desk, DIGEST)
        reply = Reply(site, MASKED.hash(), 1, self.round, CASES, self.trained, {"train/loss": 0.5})
        return make_summand(desk, reply, DIGEST)

    def agree(self, *survivors: str) -> list[Agreed]:
        told = Survivors(**self.tried, survivors=survivors).pack()
        return [Agreed.read(self.ask("agree", told, site)) for site in survivors]


def test_what_was_said_is_said_again_by_another_process(tmp_path: Path) -> None:
    server = Server(tmp_path)
    mixed = server.shares()
    assert server.keys() == server.keys()
    assert server.shares() == mixed
    first, again = server.train("north", mixed), server.train("north", mixed)
    assert hash_tensors(first.tensors) == hash_tensors(again.tensors)
    assert first.tensors["encoder.w"].dtype == np.uint32
    for site in ("east", "south"):
        server.train(site, mixed)
    agreed = server.agree(*SITES)
    assert server.agree(*SITES) == agreed
    said = AllAgreed(**server.tried, agreed=tuple(agreed)).pack()
    assert server.ask("unmask", said, "north") == server.ask("unmask", said, "north")


def test_secrets_are_the_owners_and_go_with_the_round(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.train("north", server.shares())
    folder = tmp_path / "north" / "memory" / "run" / "stage-1" / "masks"
    (path,) = folder.glob("round-*.json")
    assert path.stat().st_mode & 0o77 == 0
    assert json.loads(path.read_text())["seed"]
    Server(tmp_path, number=2).keys()
    assert [each.name[:11] for each in folder.glob("round-*.json")] == ["round-00002"]
    with pytest.raises(MaskError, match="was not begun here"):
        server.agree(*SITES)


def test_many_sessions_of_a_round_leave_the_last_ones(tmp_path: Path) -> None:
    for number in range(25):
        Server(tmp_path, session=f"{number:02x}").keys()
    assert len(list((tmp_path / "north" / "memory" / "run" / "stage-1" / "masks").glob("round-*.json"))) == 20


def test_one_list_a_round_in_whatever_session_it_is_asked_for(tmp_path: Path) -> None:
    refuse_another_sum(tmp_path, "run")


def test_one_list_a_round_in_whatever_run_it_is_asked_for(tmp_path: Path) -> None:
    refuse_another_sum(tmp_path, "another")


def refuse_another_sum(tmp_path: Path, other: str) -> None:
    for session, survivors, run in (("7a", SITES, "run"), ("7b", ("east", "north"), other), ("7c", SITES, other)):
        server = Server(tmp_path, session=session, run=run)
        mixed = server.shares()
        for site in SITES:
            server.train(site, mixed)
        if survivors == SITES:
            server.agree(*survivors)
            continue
        with pytest.raises(MaskError, match="the sum of east, north, south was agreed on before"):
            server.agree(*survivors)
        said = AllAgreed(**server.tried, agreed=()).pack()
        with pytest.raises(MaskError, match="a step was left out"):
            server.ask("unmask", said, "north")


def test_a_list_that_was_signed_is_remembered_when_the_rounds_secrets_are_gone(tmp_path: Path) -> None:
    server = Server(tmp_path)
    mixed = server.shares()
    for site in SITES:
        server.train(site, mixed)
    server.agree(*SITES)
    Server(tmp_path, number=2).keys()
    replayed = Server(tmp_path)
    mixed = replayed.shares()
    for site in SITES:
        replayed.train(site, mixed)
    with pytest.raises(MaskError, match="was agreed on before"):
        replayed.agree("east", "north")


def test_another_update_in_the_same_session_is_refused(tmp_path: Path) -> None:
    server = Server(tmp_path)
    mixed = server.shares()
    server.train("north", mixed)
    server.trained = {"encoder.w": SENT["encoder.w"] + np.float32(0.02)}
    with pytest.raises(MaskError, match="Another update was masked"):
        server.train("north", mixed)


def pin(folder: Path) -> dict[str, str]:
    """The public keys of the three sites."""
    keys = {}
    for site in SITES:
        (folder / site / "memory").mkdir(parents=True)
        key = open_node_key(folder / site / "memory" / "site.key", site)
        keys[site] = say_public_key(key.public_key()).decode()
    return keys


def test_keys_are_held_against_those_a_person_approved(tmp_path: Path) -> None:
    peers, server = pin(tmp_path), Server(tmp_path)
    among = server.keys().pack()
    with pytest.raises(PeerError, match="the hospital east, which nobody approved here") as refused:
        server.ask("shares", among, "north", {"north": peers["north"], "south": peers["south"]})
    assert refused.value.code == "UNKNOWN_PEER"
    with pytest.raises(PeerError, match="the hospital south, with another key than was approved"):
        server.ask("shares", among, "north", {**peers, "south": peers["east"]})
    with pytest.raises(PeerError):
        server.ask("shares", among, "north", {})
    assert Shares.read(server.ask("shares", among, "north", peers)).site == "north"


def test_a_site_tells_whom_it_would_mask_with(tmp_path: Path) -> None:
    peers, server = pin(tmp_path), Server(tmp_path)
    call = Call(**server.tried, enrolled={}).pack()
    offer = Offer.read(server.ask("keys", call, "north", peers))
    assert offer.peers == {site: digest_identity(line) for site, line in peers.items()}
    assert Offer.read(server.ask("keys", call, "north")).peers is None


def test_a_plain_round_of_whole_numbers_has_neither_keys_nor_masks(tmp_path: Path) -> None:
    call = Call(number="7a" * 32, digest=DIGEST, enrolled={}).pack()
    reply = answer_masks(open_desk(tmp_path, "keys", call, study=PLAIN))
    assert (reply.cases, reply.masks) == (CASES, b"")
    assert not (tmp_path / "north").exists(), "there is nothing to keep"
    parts = Parts(number="7a" * 32, digest=DIGEST, cases={"north": CASES, "south": 90}).pack()
    desk = open_desk(tmp_path, "train", parts, study=PLAIN)
    check_sum(desk, DIGEST)
    trained = Reply("north", PLAIN.hash(), 1, 1, CASES, TRAINED)
    whole = make_summand(desk, trained, DIGEST).tensors["encoder.w"].view(np.int32)
    np.testing.assert_allclose(whole / 2**31 * 2, 0.01 / 4, atol=1e-8)  # a fourth of all cases; the range is 2


@pytest.mark.parametrize("cases", [{"north": CASES + 1, "south": 5}, {"south": 5}])
def test_a_round_that_counts_the_site_otherwise_is_not_trained(cases: dict[str, int], tmp_path: Path) -> None:
    parts = Parts(number="7a" * 32, digest=DIGEST, cases=cases).pack()
    with pytest.raises(MaskError, match="does not count this site with its 30 cases"):
        check_sum(open_desk(tmp_path, "train", parts, study=PLAIN), DIGEST)


def test_other_weights_than_the_keys_were_asked_for_are_not_trained(tmp_path: Path) -> None:
    mixed = Server(tmp_path).shares()
    for study, said in (
        (MASKED, mixed.pack()),
        (PLAIN, Parts(number="7a" * 32, digest=DIGEST, cases={"north": CASES}).pack()),
    ):
        with pytest.raises(MaskError, match="weights are not those"):
            check_sum(open_desk(tmp_path, "train", said, study=study), "0" * 64)


def test_cases_that_were_not_trained_on_are_not_counted(tmp_path: Path) -> None:
    server = Server(tmp_path)
    desk = open_desk(tmp_path, "train", server.shares().pack())
    with pytest.raises(MaskError, match="was to train on 30 cases and trained on 29"):
        make_summand(desk, Reply("north", MASKED.hash(), 1, 1, CASES - 1, TRAINED), DIGEST)


def test_a_change_beyond_the_range_stays_at_the_site(tmp_path: Path) -> None:
    server = Server(tmp_path, trained={"encoder.w": SENT["encoder.w"] + np.float32(100)})
    with pytest.raises(DivergedError, match=r"encoder\.w changed by 100"):
        server.train("north", server.shares())


@pytest.mark.parametrize("action", ABOUT_MASKS)
def test_a_study_without_masks_answers_none_of_it(action: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"The study has no {action}"):
        answer_masks(open_desk(tmp_path, action, b"{}", study=OPEN))
    if action != "keys":
        with pytest.raises(RequestError, match=f"The study has no {action}"):
            answer_masks(open_desk(tmp_path, action, b"{}", study=PLAIN))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"session": 1}'])
def test_damaged_secrets_are_said_to_be(content: str, tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.keys()
    (path,) = (tmp_path / "north" / "memory" / "run" / "stage-1" / "masks").glob("round-*.json")
    path.write_text(content)
    with pytest.raises(CheckpointError, match="is damaged"):
        server.keys()


def test_a_damaged_list_of_sums_signs_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path)
    mixed = server.shares()
    for site in SITES:
        server.train(site, mixed)
    server.agree(*SITES)
    for site in SITES:
        (path,) = (tmp_path / site / "memory" / "signed").glob("*.json")
        path.write_text("{")
    with pytest.raises(CheckpointError, match="which sums were agreed on"):
        server.agree(*SITES)
