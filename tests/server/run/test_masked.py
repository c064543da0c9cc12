"""Rounds that are summed, on the server's side, with sites that do theirs: the same model with masks and without, or no
round; never another sum; nothing of a single update.
"""

import gc
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from prostafed.client.gate import masks as client_masks
from prostafed.common.errors import RoundError
from prostafed.common.exchange.messages import Reply
from prostafed.common.secagg.records import Agreed, Keys, Offer, Opened, Shares
from prostafed.common.shell.keys import open_node_key, say_public_key
from prostafed.common.study import Study
from prostafed.common.tensors import Tensors, hash_tensors
from prostafed.server.records.read import read_rounds
from prostafed.server.run.stages import run_stages
from tests.server.run import masked_sites
from tests.server.run.masked_sites import MaskedSites, make_study

STEPS = ("keys", "shares", "train", "agree", "unmask")


def run(folder: Path, study: Study, count: int = 3, **options: object) -> tuple[Tensors, MaskedSites]:
    """Run a study over so many sites, and return the model."""
    sites = MaskedSites(folder, study, [f"site-{number:02}" for number in range(count)])
    for name, value in options.items():
        setattr(sites, name, value)
    return run_stages(study, "run", sites, folder / "out"), sites


@pytest.mark.parametrize("rule", ["fixed16", "fixed32"])
@pytest.mark.parametrize("count", [3, 5, 10])
def test_a_masked_run_is_the_plain_one_to_the_last_bit(count: int, rule: str, tmp_path: Path) -> None:
    masked, sites = run(tmp_path / "masked", make_study(True, rule), count)
    plain, others = run(tmp_path / "plain", make_study(False, rule), count)
    assert hash_tensors(masked) == hash_tensors(plain)
    assert [action for action, number, _ in sites.asked if number == 2] == list(STEPS)
    assert [action for action, number, _ in others.asked if number == 2] == ["keys", "train"]
    masked_lines, plain_lines = (read_rounds(tmp_path / each / "out") for each in ("masked", "plain"))
    for line, other in zip(masked_lines, plain_lines, strict=True):
        assert line.replies == other.replies == tuple(sites.names)
        assert line.diagnostics == other.diagnostics
        assert line.cases == other.cases
        assert not line.norms
        assert not line.influence


@pytest.mark.parametrize("aggregate", ["fedavgm", "fedadagrad", "fedadam", "fedyogi", "fedprox", "ditto"])
def test_every_rule_that_takes_a_mean_works_on_sums(aggregate: str, tmp_path: Path) -> None:
    masked, _ = run(tmp_path / "masked", make_study(True, aggregate=aggregate))
    plain, _ = run(tmp_path / "plain", make_study(False, aggregate=aggregate))
    assert hash_tensors(masked) == hash_tensors(plain)


def count_survivors(count: int, step: str, gone: int) -> int:
    """Return how many are in the sum where `gone` of `count` sites drop out at a step, 0 where there is none."""
    there, needed = count - gone, count // 2 + 1
    if step == "keys":
        return there if there >= 3 else 0
    enough = there >= (max(needed, 3) if step == "shares" else needed)
    return (count if step in ("agree", "unmask") else there) if enough else 0


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("gone", [1, 2, 3])
def test_who_drops_out_leaves_the_sum_of_the_others_or_none(gone: int, step: str, tmp_path: Path) -> None:
    """Of four sites, at every exchange of each round; every set of sites is tried in tests/common/secagg."""
    names = [f"site-{number:02}" for number in range(4)]
    expected, fails = count_survivors(4, step, gone), {(step, site): "NODE_LOST" for site in names[:gone]}
    if not expected:
        with pytest.raises(RoundError, match="WRONG_MASKS"):
            run(tmp_path, make_study(), 4, fails=fails)
        line = read_rounds(tmp_path / "out")[0]
        assert not line.aggregated
        assert line.problem.startswith("WRONG_MASKS: ")
        return
    model, _ = run(tmp_path, make_study(), 4, fails=fails)
    line = read_rounds(tmp_path / "out")[0]
    assert len(line.replies) == expected
    assert [(entry["site"], entry["exchange"], entry["code"]) for entry in line.dropped] == [
        (site, step, "NODE_LOST") for site in names[:gone]
    ]
    exchange = "train" if step == "train" else "keys"
    plain_fails = {(exchange, site): "NODE_LOST" for site in names if site not in line.replies}
    plain, _ = run(tmp_path / "plain", make_study(False), 4, fails=plain_fails)
    assert hash_tensors(model) == hash_tensors(plain)


def flip(text: str) -> str:
    return f"{int(text[-1], 16) ^ 1:x}".join([text[:-1], ""])


def change_keys(reply: Reply) -> bytes:
    offer = Offer.read(reply.masks)
    keys: Keys = offer.keys.model_copy(update={"masking": flip(offer.keys.masking)})
    return offer.model_copy(update={"keys": keys}).pack()


def change_shares(reply: Reply) -> bytes:
    return Shares.read(reply.masks).model_copy(update={"commitment": "0" * 64}).pack()


def change_agreed(reply: Reply) -> bytes:
    return Agreed.read(reply.masks).model_copy(update={"survivors": ("site-00", "site-01")}).pack()


def change_opened(reply: Reply) -> bytes:
    opened = Opened.read(reply.masks)
    return opened.model_copy(update={"seeds": {site: flip(share) for site, share in opened.seeds.items()}}).pack()


LIES: dict[str, tuple[str, Callable[[Reply], bytes]]] = {
    "keys": ("keys", change_keys),
    "shares": ("shares", change_shares),
    "list": ("agree", change_agreed),
    "no record": ("shares", lambda reply: b"\x00"),
    "no list": ("agree", lambda reply: b"[]"),
    "no shares": ("unmask", lambda reply: b'{"seeds": {}, "keys": {}}'),
}


@pytest.mark.parametrize("lie", LIES)
def test_who_lies_is_left_out_with_a_code_and_the_others_go_on(lie: str, tmp_path: Path) -> None:
    action, change = LIES[lie]

    def tamper(asked: str, site: str, reply: Reply) -> Reply:
        return replace(reply, masks=change(reply)) if (asked, site) == (action, "site-00") else reply

    model, _ = run(tmp_path, make_study(), 4, tamper=tamper)
    line = read_rounds(tmp_path / "out")[0]
    assert [(entry["site"], entry["code"], entry["exchange"]) for entry in line.dropped] == [
        ("site-00", "WRONG_MASKS", action)
    ]
    fails = {} if action in ("agree", "unmask") else {("keys", "site-00"): "X"}
    plain, _ = run(tmp_path / "plain", make_study(False), 4, fails=fails)
    assert hash_tensors(model) == hash_tensors(plain)


def test_a_share_that_fits_nothing_gives_no_round_and_another_session_does(tmp_path: Path) -> None:
    lies = iter([True])

    def tamper(asked: str, site: str, reply: Reply) -> Reply:
        lie = asked == "unmask" and site == "site-00" and next(lies, False)
        return replace(reply, masks=change_opened(reply)) if lie else reply

    model, _ = run(tmp_path, make_study(more=', "below_quorum": "retry"'), tamper=tamper)
    first, second = read_rounds(tmp_path / "out")[:2]
    assert not first.aggregated
    assert first.problem.startswith("WRONG_MASKS: ")
    assert (second.round, second.attempt, second.aggregated) == (1, 2, True)
    plain, _ = run(tmp_path / "plain", make_study(False))
    assert hash_tensors(model) == hash_tensors(plain)


def test_after_one_sum_was_agreed_on_no_other_is(tmp_path: Path) -> None:
    """The first try ends without a sum after its list was signed; the second has one site less: it would tell it."""
    fails: dict[tuple[str, str], str] = {("unmask", f"site-{number:02}"): "NODE_LOST" for number in range(4)}
    study = make_study()
    with pytest.raises(RoundError, match="sites helped to take the masks off"):
        run(tmp_path, study, 4, fails=fails)
    with pytest.raises(RoundError, match=r"0 sites agreed .*, 3 are needed \(site-00: WRONG_MASKS"):
        run(tmp_path, study, 4, fails={("train", "site-03"): "NODE_LOST"})
    model, _ = run(tmp_path, study, 4)
    plain, _ = run(tmp_path / "plain", make_study(False), 4)
    assert hash_tensors(model) == hash_tensors(plain), "the same sum is given again"


def test_any_so_many_are_enough_to_take_masks_off_and_no_more_are_asked_to_answer(tmp_path: Path) -> None:
    _, sites = run(
        tmp_path, make_study(), 5, fails={("agree", "site-00"): "NODE_LOST", ("unmask", "site-01"): "RESTING"}
    )
    line = read_rounds(tmp_path / "out")[0]
    assert line.replies == tuple(sites.names)
    assert not line.rejections, "who has sent its update has done its part"
    assert [(entry["site"], entry["exchange"]) for entry in line.dropped] == [
        ("site-00", "agree"),
        ("site-01", "unmask"),
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_sites_mask_nothing(count: int, tmp_path: Path) -> None:
    with pytest.raises(RoundError, match="of fewer than 3 a sum tells too much"):
        run(tmp_path, make_study(), count)


def test_a_reply_with_other_cases_or_without_a_tensor_is_none(tmp_path: Path) -> None:
    def tamper(asked: str, site: str, reply: Reply) -> Reply:
        if asked != "train" or site not in ("site-01", "site-02"):
            return reply
        if site == "site-01":
            return replace(reply, cases=reply.cases + 1)
        return replace(reply, tensors=dict(list(reply.tensors.items())[1:]))

    run(tmp_path, make_study(), 5, tamper=tamper)
    line = read_rounds(tmp_path / "out")[0]
    assert [(each["site"], each["code"]) for each in line.rejections] == [
        ("site-01", "WRONG_CASES"),
        ("site-02", "WRONG_TENSORS"),
    ]


class TestStrangers:
    """Who is not in the others' approvals is left out; they are told to approve again."""

    def pin(self, folder: Path, names: list[str]) -> dict[str, str]:
        keys = {}
        for name in names:
            memory = folder / "sites" / name / "memory"
            memory.mkdir(parents=True)
            keys[name] = say_public_key(open_node_key(memory / "site.key", name).public_key()).decode()
        return keys

    def test_a_hospital_that_came_later_waits_for_the_others_to_approve_again(self, tmp_path: Path) -> None:
        names = [f"site-{number:02}" for number in range(4)]
        keys = self.pin(tmp_path, names)
        before = {name: key for name, key in keys.items() if name != "site-03"}
        peers = {name: keys if name == "site-03" else before for name in names}
        model, _ = run(tmp_path, make_study(), 4, peers=peers)
        line = read_rounds(tmp_path / "out")[0]
        (left_out,) = line.rejections
        assert (left_out["site"], left_out["code"]) == ("site-03", "UNKNOWN_PEER")
        assert "site-00, site-01, site-02" in left_out["text"]
        plain, _ = run(tmp_path / "plain", make_study(False), 4, fails={("keys", "site-03"): "X"})
        assert hash_tensors(model) == hash_tensors(plain)

    def test_all_take_part_once_all_have_approved(self, tmp_path: Path) -> None:
        names = [f"site-{number:02}" for number in range(4)]
        keys = self.pin(tmp_path, names)
        run(tmp_path, make_study(), 4, peers=dict.fromkeys(names, keys))
        assert read_rounds(tmp_path / "out")[0].replies == tuple(names)

    def test_a_server_that_sends_a_strangers_keys_all_the_same_gets_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = [f"site-{number:02}" for number in range(4)]
        keys = self.pin(tmp_path, names)
        monkeypatch.setattr("prostafed.server.run.masked.leave_out_strangers", lambda offers: {})
        for pins in (
            {name: key for name, key in keys.items() if name != "site-03"},
            {**keys, "site-03": keys["site-02"]},  # known, with another key
        ):
            peers = {name: keys if name == "site-03" else pins for name in names}
            with pytest.raises(RoundError, match="site-00: UNKNOWN_PEER"):
                run_on(tmp_path, peers)


def run_on(folder: Path, peers: dict[str, dict[str, str]]) -> None:
    """Run on the sites that are in `folder` already."""
    sites = MaskedSites(folder, make_study(), sorted(peers), peers=peers)
    run_stages(sites.study, "run", sites, folder / f"out-{len(list(folder.iterdir()))}")


class Look:
    """Looks for updates of single sites in all that this process holds, and in the files of a run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
        self.out, self.found, self.times = out, set[str](), 0
        self.updates: dict[str, bytes] = {}  # digest of an array -> its bytes
        for module, name in ((client_masks, "to_integers"), (masked_sites, "train")):
            monkeypatch.setattr(module, name, partial(self.note, getattr(module, name)))

    def note(self, make: Callable[..., Tensors], *given: object) -> Tensors:
        made = make(*given)
        self.updates |= {digest(array): array.tobytes() for array in made.values() if array.nbytes >= 16}
        return made

    def __call__(self, action: str = "", site: str = "") -> None:
        if action not in ("", "train", "unmask"):
            return
        self.times += 1
        self.found |= {each for array in list_arrays() if (each := digest(array)) in self.updates}
        for path in self.out.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            self.found |= {each for each, update in self.updates.items() if update in content}


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def list_arrays() -> list[np.ndarray]:
    """Return every array that something in this process holds, also in dictionaries that Python does not track."""
    waiting, seen, found = list(gc.get_objects()), set[int](), list[np.ndarray]()
    while waiting:
        for referent in gc.get_referents(waiting.pop()):
            if id(referent) in seen:
                continue
            if type(referent) is np.ndarray:
                seen.add(id(referent))
                found.append(referent)
            elif not gc.is_tracked(referent) and isinstance(referent, dict | list | tuple):
                seen.add(id(referent))
                waiting.append(referent)
    return [array for array in found if array.nbytes]


@pytest.mark.parametrize("masked", [True, False])
def test_no_update_of_a_site_is_in_the_servers_memory_or_on_its_disk(
    masked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same look finds them where they are not masked: each reply is one."""
    run(tmp_path / "before", make_study(masked), 4)  # all is imported that will be
    look = Look(monkeypatch, tmp_path / "out")
    gc.collect()
    gc.freeze()  # what was there before the run is looked at once, at the end
    try:
        run(tmp_path, make_study(masked), 4, watch=look, fails={("train", "site-02"): "NODE_LOST"})
    finally:
        gc.unfreeze()
    look()
    assert look.times >= 7
    assert len(look.updates) > 4
    assert bool(look.found) != masked
