"""Masked rounds: equal to plain ones to the last bit, or nothing; whatever a site or the server changes is noticed."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import TypeVar

import numpy as np
import pytest
from scipy.stats import kstest

from prostafed.common.errors import MaskError
from prostafed.common.secagg import records
from prostafed.common.secagg.fixed_point import FORMS
from prostafed.common.secagg.records import Agreed, AllAgreed, AllKeys, AllShares, Keys, Opened, Record, Shares
from prostafed.common.secagg.steps import agree, begin, make_shares, mask_once, mix, open_shares
from prostafed.common.tensors import hash_tensors

from .exchange import SESSION, TRY, Exchange, count_cases, find_plain, identity, make_global, name_sites, sum_plain

STEPS = ("keys", "shares", "train", "agree", "unmask")
Said = TypeVar("Said", bound=Record)
NORTH, SOUTH, WEST = name_sites(3)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each signature is verified once, though each site verifies it."""
    verify = records.is_signed
    known: dict[tuple[bytes, bytes], bool] = {}

    def is_signed(key: object, message: bytes, signature: bytes) -> bool:
        if (message, signature) not in known:
            known[message, signature] = verify(key, message, signature)  # type: ignore[arg-type]
        return known[message, signature]

    monkeypatch.setattr(records, "is_signed", is_signed)
    monkeypatch.setattr(records, "read_identity", cache(records.read_identity))


@pytest.mark.parametrize("rule", FORMS)
@pytest.mark.parametrize(
    "count", [3, 4, 5, 8, 13, pytest.param(34, marks=pytest.mark.slow), pytest.param(50, marks=pytest.mark.slow)]
)
def test_masked_is_plain_to_the_last_bit(count: int, rule: str) -> None:
    exchange = Exchange(name_sites(count), rule=rule)
    total, survivors = exchange.run()
    assert survivors == tuple(exchange.sites)
    assert hash_tensors(total) == hash_tensors(sum_plain(survivors, survivors, rule))


def run_with_dropouts(count: int, dropped: dict[str, set[str]]) -> bool:
    """Return whether a sum came out, which then is the plain one; it does where the threshold says so."""
    there = {"": set(name_sites(count))}
    for before, step in zip(("", *STEPS), STEPS, strict=False):
        there[step] = there[before] - dropped.get(step, set())
    exchange, needed = Exchange(name_sites(count), dropped=dropped), len(there["keys"]) // 2 + 1
    enough = len(there["keys"]) >= 3 and len(there["shares"]) >= 3 and len(there["unmask"]) >= needed
    if not enough:
        with pytest.raises((MaskError, ValueError)):
            exchange.run()
        return False
    total, survivors = exchange.run()
    assert set(survivors) == there["train"]
    assert hash_tensors(total) == hash_tensors(sum_plain(survivors, tuple(sorted(there["shares"])), "fixed32"))
    return True


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("count", [3, 4, 5])
@pytest.mark.usefixtures("quick")
def test_who_drops_out_of_an_exchange_leaves_the_sum_of_the_others_or_none(count: int, step: str) -> None:
    """Every set of sites, at every exchange."""
    sites = name_sites(count)
    came = [run_with_dropouts(count, {step: set(gone)}) for many in range(count) for gone in combinations(sites, many)]
    assert any(came)
    assert not all(came)


@pytest.mark.usefixtures("quick")
def test_two_drop_out_at_any_two_exchanges() -> None:
    for first in STEPS:
        for second in STEPS:
            dropped: dict[str, set[str]] = {first: {"site-01"}}
            dropped.setdefault(second, set()).add("site-03")
            assert run_with_dropouts(5, dropped)


def test_what_leaves_looks_random_and_tells_nothing_of_the_update() -> None:
    exchange = Exchange(name_sites(3))
    exchange.run()
    upload, plain = exchange.uploads[NORTH], find_plain(make_global(), NORTH, tuple(exchange.sites), "fixed32")
    masked = np.concatenate([upload[name].reshape(-1) for name in sorted(upload)])
    assert kstest(masked / 2**32, "uniform").pvalue > 1e-3
    assert not (masked == np.concatenate([plain[name].reshape(-1) for name in sorted(plain)])).any()
    again = Exchange(name_sites(3))
    again.run()
    assert hash_tensors(again.uploads[NORTH]) != hash_tensors(upload), "each session has masks of its own"


def flip(text: str | None) -> str:
    assert text
    return f"{int(text[0], 16) ^ 1:x}{text[1:]}"


def change(said: Said, **values: object) -> Said:
    return said.model_copy(update=values)


def signed_again(said: Keys | Shares | Agreed, **values: object) -> object:
    """Changed by the site itself, whose signature is sound."""
    return said.model_copy(update=values).sign(identity(said.site), SESSION)


TAMPERED: dict[str, tuple[str, Callable[..., object], str]] = {
    "key of masks": ("keys", lambda said: change(said, masking=flip(said.masking)), "not signed"),
    "key of shares": ("keys", lambda said: change(said, sealing=flip(said.sealing)), "not signed"),
    "cases": ("keys", lambda said: change(said, cases=said.cases + 1), "not signed"),
    "signature": ("keys", lambda said: change(said, signature=flip(said.signature[-8:])), "not signed"),
    "identity": ("keys", lambda said: change(said, identity=said.identity[:-1]), "no ECDSA key|not signed"),
    "another session": ("keys", lambda said: said.sign(identity(said.site), "0" * 64), "not signed"),
    "another name": ("keys", lambda said: signed_again(said, site="site-09"), "name the site site-09"),
    "sealed share": (
        "shares",
        lambda said: signed_again(said, sealed={to: flip(each) for to, each in said.sealed.items()}),
        "was changed",
    ),
    "sealed share, on the way": (
        "shares",
        lambda said: change(said, sealed={to: flip(each) for to, each in said.sealed.items()}),
        "not signed",
    ),
    "commitment": ("shares", lambda said: signed_again(said, commitment="0" * 64), "do not give the mask"),
    "share left out": ("shares", lambda said: signed_again(said, sealed={}), "not one for each"),
    "other keys": ("shares", lambda said: signed_again(said, among="0" * 64), "for others"),
    "survivors": (
        "agree",
        lambda said: signed_again(said, survivors=said.survivors[:-1]),
        "Another list of survivors",
    ),
    "survivors' signature": ("agree", lambda said: change(said, signature=flip(said.signature[-8:])), "not signed"),
    "share of a seed": (
        "unmask",
        lambda said: change(said, seeds={to: flip(each[::-1])[::-1] for to, each in said.seeds.items()}),
        "do not give|fit together|below the prime",
    ),
    "share of a key": (
        "unmask",
        lambda said: change(said, keys={to: flip(each[::-1])[::-1] for to, each in said.keys.items()}),
        "do not give|fit together|below the prime",
    ),
    "shares swapped": ("unmask", lambda said: change(said, seeds=said.keys, keys=said.seeds), "not those of"),
    "shares short": ("unmask", lambda said: change(said, seeds=dict.fromkeys(said.seeds, "00")), "not one of"),
}


@pytest.mark.parametrize("what", TAMPERED)
@pytest.mark.usefixtures("quick")
def test_what_a_site_changes_gives_no_sum(what: str) -> None:
    step, tamper, said = TAMPERED[what]

    def on_the_way(at: str, site: str, told: object) -> object:
        return tamper(told) if (at, site) == (step, "site-00") else told

    with pytest.raises(MaskError, match=said):
        Exchange(name_sites(4), dropped={"train": {"site-02"}}, on_the_way=on_the_way).run()


def ready(count: int = 4) -> Exchange:
    """Sites that have masked, with what the server has heard of them."""
    exchange = Exchange(name_sites(count))
    exchange.run()
    return exchange


@pytest.mark.usefixtures("quick")
class TestAServerThatLies:
    """What a site refuses of it."""

    def test_it_changes_the_keys_of_a_site(self) -> None:
        exchange = ready()
        party = replace(exchange.parties[NORTH], among=None, shares=None)
        among = exchange.parties[NORTH].among
        assert among
        other = begin(SESSION, SOUTH, 20, identity(SOUTH)).keys
        for keys, said in [
            (change(among.of(SOUTH), masking=flip(among.of(SOUTH).masking)), "not signed"),
            (other.model_copy(update={"site": SOUTH, "signature": None}), "not signed"),
        ]:
            changed = tuple(keys if each.site == SOUTH else each for each in among.keys)
            with pytest.raises(MaskError, match=said):
                make_shares(party, AllKeys(**TRY, keys=changed), 0, identity(NORTH))
        own = tuple(
            begin(SESSION, NORTH, 27, identity(NORTH)).keys if each.site == NORTH else each for each in among.keys
        )
        with pytest.raises(MaskError, match="do not name this site"):
            make_shares(party, AllKeys(**TRY, keys=own), 0, identity(NORTH))

    def test_it_tells_two_lists_of_keys(self) -> None:
        exchange = ready()
        party = exchange.parties[NORTH]
        assert party.among
        fewer = AllKeys(**TRY, keys=party.among.keys[:3])
        with pytest.raises(MaskError, match="Other keys were told"):
            make_shares(party, fewer, 0, identity(NORTH))
        assert make_shares(party, party.among, 0, identity(NORTH)) == party

    @pytest.mark.parametrize("threshold", [1, 2, 5])
    def test_a_threshold_that_is_no_majority(self, threshold: int) -> None:
        exchange = ready()
        party = replace(exchange.parties[NORTH], among=None, shares=None)
        among = exchange.parties[NORTH].among
        assert among
        with pytest.raises(MaskError, match="more than half"):
            make_shares(party, among, threshold, identity(NORTH))

    def test_it_leaves_shares_out_or_changes_them(self) -> None:
        exchange = ready()
        party = replace(exchange.parties[NORTH], mixed=None, payload="", agreed=None)
        mixed = exchange.parties[NORTH].mixed
        assert mixed
        own, others = mixed.shares[0], mixed.shares[1:]
        sealed = change(others[0], sealed={to: flip(each) for to, each in others[0].sealed.items()})
        for shares, said in [
            (others, "Those who mask together"),
            ((own, sealed, *others[1:]), "not signed"),
            ((change(own, commitment="0" * 64), *others), "Those who mask together"),
        ]:
            with pytest.raises(MaskError, match=said):
                mix(party, AllShares(**TRY, shares=shares), 0)
        with pytest.raises(MaskError, match="Other sites that mask together"):
            mix(exchange.parties[NORTH], AllShares(**TRY, shares=mixed.shares[:3]), 0)

    def test_it_asks_for_another_update_under_the_same_masks(self) -> None:
        party = ready().parties[NORTH]
        with pytest.raises(MaskError, match="Another update was masked"):
            mask_once(party, "0" * 64)
        assert mask_once(party, party.payload) == party

    def test_it_tells_another_list_of_survivors(self) -> None:
        party = ready().parties[NORTH]
        assert party.agreed
        with pytest.raises(MaskError, match="Another list of survivors"):
            agree(party, party.agreed.survivors[:3], 0, identity(NORTH))
        assert agree(party, party.agreed.survivors, 0, identity(NORTH)) == party

    @pytest.mark.parametrize(
        "survivors",
        [
            (NORTH, SOUTH),
            (SOUTH, WEST, "site-03"),
            (NORTH, SOUTH, "site-09"),
            (NORTH, NORTH, SOUTH, WEST),
            (WEST, SOUTH, NORTH),
        ],
    )
    def test_survivors_who_are_none(self, survivors: tuple[str, ...]) -> None:
        party = replace(ready().parties[NORTH], agreed=None)
        with pytest.raises(MaskError, match="survivors"):
            agree(party, survivors, 0, identity(NORTH))

    def test_nothing_is_signed_before_the_update_has_left(self) -> None:
        party = replace(ready().parties[NORTH], agreed=None, payload="")
        with pytest.raises(MaskError, match="has not left"):
            agree(party, (NORTH, SOUTH, WEST), 0, identity(NORTH))

    def test_shares_are_opened_for_one_list_that_enough_have_signed(self) -> None:
        exchange = ready()
        party = exchange.parties[NORTH]
        agreed = tuple(each.agreed for each in exchange.parties.values() if each.agreed)
        assert len(agreed) == 4
        opened = open_shares(party, AllAgreed(**TRY, agreed=agreed[:3]), 0)
        assert set(opened.seeds) == set(exchange.sites)
        assert not opened.keys
        fewer = agreed[3].survivors[:3]
        for said, why in [
            (agreed[:2], "Fewer than 3"),
            ((agreed[0], agreed[0], agreed[0]), "Fewer than 3"),
            ((*agreed[:3], change(agreed[3], survivors=fewer)), "told of other survivors"),
            ((*agreed[:3], change(agreed[3], signature=flip((agreed[3].signature or "")[-8:]))), "not signed"),
            ((*agreed[:3], change(agreed[3], mixed="0" * 64)), "told of other survivors"),
        ]:
            with pytest.raises(MaskError, match=why):
                open_shares(party, AllAgreed(**TRY, agreed=said), 0)

    def test_seed_and_key_of_one_site_never_both(self) -> None:
        exchange = Exchange(name_sites(4), dropped={"train": {WEST}})
        exchange.run()
        said = tuple(each.agreed for each in exchange.parties.values() if each.agreed)
        opened = open_shares(exchange.parties[NORTH], AllAgreed(**TRY, agreed=said), 0)
        assert set(opened.keys) == {WEST}
        assert not set(opened.keys) & set(opened.seeds)

    @pytest.mark.parametrize("step", ["mix", "agree", "open"])
    def test_a_step_that_was_left_out(self, step: str) -> None:
        exchange = ready()
        mixed, agreed = exchange.parties[NORTH].mixed, exchange.parties[NORTH].agreed
        party = begin(SESSION, NORTH, count_cases(NORTH), identity(NORTH))
        assert mixed
        assert agreed
        calls: dict[str, Callable[[], object]] = {
            "mix": lambda: mix(party, mixed, 0),
            "agree": lambda: agree(party, agreed.survivors, 0, identity(NORTH)),
            "open": lambda: open_shares(party, AllAgreed(**TRY, agreed=(agreed,)), 0),
        }
        with pytest.raises(MaskError, match="a step was left out"):
            calls[step]()


HOSTILE = [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"seeds": 1, "keys": {}}', b'{"seeds": {}, "keys": {}, "x": 1}']


@pytest.mark.parametrize("content", HOSTILE)
@pytest.mark.parametrize("kind", [Keys, Shares, Agreed, AllKeys, AllShares, AllAgreed, Opened])
def test_what_is_no_record_is_refused_in_one_sentence(kind: type[Record], content: bytes) -> None:
    with pytest.raises(MaskError, match=f"Expected {kind.__name__} of a masked round"):
        kind.read(content)


def test_records_are_read_as_they_were_packed() -> None:
    exchange = ready(3)
    party = exchange.parties[NORTH]
    assert party.among
    assert party.mixed
    assert party.agreed
    for record in (party.keys, party.among, party.shares, party.mixed, party.agreed):
        assert record
        assert type(record).read(record.pack()) == record


def test_each_site_is_listed_once_and_in_order() -> None:
    among = ready(3).parties[NORTH].among
    assert among
    for keys in ((among.keys[1], among.keys[0], among.keys[2]), (*among.keys, among.keys[2]), among.keys[:2]):
        with pytest.raises(MaskError, match="Expected AllKeys"):
            AllKeys.read(AllKeys.model_construct(**TRY, keys=keys).pack())
