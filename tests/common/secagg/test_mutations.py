"""Every check of masked rounds is one that holds: taken out, one of the tests named for its function fails.

Sites and server check some things twice, each for itself; so each is asked alone here.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from prostafed.common.errors import MaskError
from prostafed.common.secagg import steps
from prostafed.common.secagg.keys import seal
from prostafed.common.secagg.records import AllAgreed, AllKeys, AllShares, Keys, Opened, find_threshold, read_identity
from prostafed.common.secagg.steps import mix, open_shares
from prostafed.common.secagg.unmasking import (
    Mixing,
    check_agreed,
    check_keys,
    check_opened,
    check_shares,
    find_left_over,
)
from tests.common.secagg import test_fixed_point, test_keys, test_shamir, test_steps
from tests.common.secagg.exchange import SESSION, TRY, Exchange
from tests.common.secagg.test_steps import NORTH, SOUTH, change, flip, ready, signed_again
from tests.mutations import Kind, Point, Test, fails, list_points, taking_out

MODULES = tuple(f"common.secagg.{name}" for name in ("fixed_point", "keys", "records", "shamir", "steps", "unmasking"))
KIND = Kind(calls=frozenset(("verify", "_check_same", "_check_order", "_unseal")), around={})
LIES = test_steps.TestAServerThatLies()


@cache
def done() -> tuple[Exchange, Mixing]:
    """A round of four sites, and what the server knows of it."""
    exchange = ready()
    party = exchange.parties[NORTH]
    assert party.among
    assert party.mixed
    return exchange, Mixing(SESSION, party.among, party.mixed, 0)


def refused(call: Callable[[], object], said: str) -> None:
    with pytest.raises(MaskError, match=said):
        call()


def the_server_takes_keys_of_their_site_alone(_: Path) -> None:
    keys = done()[1].among.of(NORTH)
    check_keys(keys, NORTH, SESSION)
    refused(lambda: check_keys(keys, SOUTH, SESSION), f"name the site {NORTH}")
    refused(lambda: check_keys(change(keys, cases=keys.cases + 1), NORTH, SESSION), "not signed")


def the_server_takes_shares_for_all_the_others(_: Path) -> None:
    exchange, mixing = done()
    shares = exchange.parties[NORTH].shares
    assert shares
    check_shares(shares, NORTH, mixing.among, SESSION)
    for changed, said in (
        (signed_again(shares, among="0" * 64), "for others"),
        (signed_again(shares, sealed={}), "not one for each"),
        (change(shares, commitment="0" * 64), "not signed"),
    ):
        refused(lambda changed=changed: check_shares(changed, NORTH, mixing.among, SESSION), said)  # type: ignore[misc]


def the_server_takes_the_list_it_asked_for(_: Path) -> None:
    exchange, mixing = done()
    agreed = exchange.parties[NORTH].agreed
    assert agreed
    check_agreed(agreed, NORTH, agreed.survivors, mixing)
    refused(lambda: check_agreed(agreed, NORTH, agreed.survivors[:3], mixing), "Another list")
    unsigned = change(agreed, signature=flip((agreed.signature or "")[-8:]))
    refused(lambda: check_agreed(unsigned, NORTH, agreed.survivors, mixing), "not signed")


def open_all() -> tuple[dict[str, Opened], tuple[str, ...], Mixing]:
    exchange, mixing = done()
    said = AllAgreed(**TRY, agreed=tuple(each.agreed for each in exchange.parties.values() if each.agreed))
    opened = {site: open_shares(exchange.parties[site], said, 0) for site in exchange.sites}
    return opened, tuple(exchange.sites), mixing


def the_server_takes_shares_of_the_right_secrets(_: Path) -> None:
    opened, survivors, mixing = open_all()
    check_opened(opened[NORTH], survivors, mixing)
    both = change(opened[NORTH], keys=dict(opened[NORTH].seeds))
    short = change(opened[NORTH], seeds=dict.fromkeys(survivors, "00"))
    refused(lambda: check_opened(both, survivors, mixing), "not those of all seeds")
    refused(lambda: check_opened(short, survivors, mixing), "not one of 33 bytes")


def fewer_than_the_threshold_take_no_masks_off(_: Path) -> None:
    opened, survivors, mixing = open_all()
    find_left_over(opened, survivors, mixing)
    fewer = {name: opened[name] for name in survivors[:2]}
    refused(lambda: find_left_over(fewer, survivors, mixing), "2 sites helped")


def a_site_takes_shares_for_the_same_keys(_: Path) -> None:
    exchange, mixing = done()
    party = replace(exchange.parties[NORTH], mixed=None, payload="", agreed=None)
    own, other, *rest = mixing.mixed.shares
    for made in (signed_again(other, among="0" * 64), signed_again(other, sealed={})):
        others = AllShares.model_construct(**TRY, shares=(own, made, *rest))
        refused(lambda others=others: mix(party, others, 0), "not for those whose keys")  # type: ignore[misc]


def a_site_takes_shares_of_their_size(_: Path) -> None:
    exchange, mixing = done()
    party = replace(exchange.parties[NORTH], mixed=None, payload="", agreed=None)
    own, other, *rest = mixing.mixed.shares
    key = steps._sealing_key(exchange.parties[SOUTH], mixing.among, NORTH, SOUTH, NORTH)
    short = seal(b"short", key, steps._say(SESSION, SOUTH, NORTH)).hex()
    made = signed_again(other, sealed={**other.sealed, NORTH: short})
    others = AllShares.model_construct(**TRY, shares=(own, made, *rest))
    refused(lambda: mix(party, others, 0), "another size")


def too_few_sites_or_too_low_a_threshold(_: Path) -> None:
    refused(lambda: find_threshold(0, 2), "tells too much")
    for wanted in (1, 2, 5):
        refused(lambda wanted=wanted: find_threshold(wanted, 4), "more than half")  # type: ignore[misc]


def a_key_is_written_in_one_way(_: Path) -> None:
    line = done()[1].among.of(NORTH).identity
    read_identity(line)
    refused(lambda: read_identity(f"{line} north"), "as OpenSSH writes it")
    refused(lambda: read_identity(line[:-9]), "no ECDSA key")


def whoever_is_listed_is_listed_once(_: Path) -> None:
    mixing = done()[1]
    keys, shares = mixing.among.keys, mixing.mixed.shares
    for order in ((1, 0, 2), (0, 1, 2, 2)):
        twice = AllKeys.model_construct(**TRY, keys=tuple(keys[place] for place in order)).pack()
        refused(lambda twice=twice: AllKeys.read(twice), "Expected AllKeys")  # type: ignore[misc]
        again = AllShares.model_construct(**TRY, shares=tuple(shares[place] for place in order)).pack()
        refused(lambda again=again: AllShares.read(again), "Expected AllShares")  # type: ignore[misc]


def lies(name: str, *given: object) -> Test:
    """Return a test of what a site refuses of its server."""
    return lambda _: getattr(LIES, name)(*given)


def tampered(what: str) -> Test:
    """Return the test that a whole round gives no sum where a site changes this."""
    return lambda _: test_steps.test_what_a_site_changes_gives_no_sum(what)


TESTS: dict[str, list[Test]] = {
    "fixed_point._to_whole": [lambda _: test_fixed_point.test_what_goes_too_far_is_refused("fixed32", 1.5)],
    "keys.share_key": [lambda _: test_keys.test_a_point_that_gives_everybody_the_same_key_is_refused(bytes(32))],
    "keys.unseal": [lambda _: test_keys.test_what_is_sealed_is_opened_by_its_receiver_as_it_was()],
    "records.Record.read": [lambda _: test_steps.test_what_is_no_record_is_refused_in_one_sentence(Keys, b"[]")],
    "records.Signed.verify": [the_server_takes_keys_of_their_site_alone],
    "records._check_order": [whoever_is_listed_is_listed_once],
    "records.AllKeys._ordered": [whoever_is_listed_is_listed_once],
    "records.AllShares._ordered": [whoever_is_listed_is_listed_once],
    "records.find_threshold": [too_few_sites_or_too_low_a_threshold],
    "records.read_identity": [a_key_is_written_in_one_way],
    "shamir.join_shares": [
        lambda _: test_shamir.test_what_is_no_share_is_refused(b"1" * 32),
        lambda _: test_shamir.test_a_value_that_is_no_secret_is_refused(),
    ],
    "steps.make_shares": [lies("test_it_tells_two_lists_of_keys"), lies("test_it_changes_the_keys_of_a_site")],
    "steps.mix": [
        lies("test_it_leaves_shares_out_or_changes_them"),
        *(a_site_takes_shares_for_the_same_keys, a_site_takes_shares_of_their_size),
    ],
    "steps.mask_once": [lies("test_it_asks_for_another_update_under_the_same_masks")],
    "steps.agree": [
        lies("test_it_tells_another_list_of_survivors"),
        lies("test_survivors_who_are_none", (NORTH, SOUTH)),
        lies("test_nothing_is_signed_before_the_update_has_left"),
    ],
    "steps.open_shares": [lies("test_shares_are_opened_for_one_list_that_enough_have_signed")],
    "steps._unseal": [a_site_takes_shares_of_their_size],
    "steps._check_same": [lies("test_it_tells_two_lists_of_keys")],
    "steps._need": [lies("test_a_step_that_was_left_out", "mix")],
    "unmasking.check_keys": [the_server_takes_keys_of_their_site_alone],
    "unmasking.check_shares": [the_server_takes_shares_for_all_the_others],
    "unmasking.check_agreed": [the_server_takes_the_list_it_asked_for],
    "unmasking.check_opened": [the_server_takes_shares_of_the_right_secrets],
    "unmasking.find_left_over": [
        fewer_than_the_threshold_take_no_masks_off,
        *(tampered("commitment"), tampered("share of a seed"), tampered("share of a key")),
    ],
}
POINTS = [point for module in MODULES for point in list_points(module, KIND)]


def find_name(module: str, function: str) -> str:
    return f"{module.rpartition('.')[2]}.{function}"


@pytest.mark.parametrize("name", TESTS)
def test_masked_rounds_keep(name: str, tmp_path: Path) -> None:
    for test in TESTS[name]:
        test(tmp_path)


@pytest.mark.parametrize("point", POINTS, ids=lambda point: "-".join(map(str, point)))
def test_without_a_check_a_test_fails(point: Point, tmp_path: Path) -> None:
    done()  # by the code as it is
    with taking_out(point, KIND):
        tests = TESTS.get(find_name(*point[:2]), [])
        assert any(fails(test, tmp_path / str(place)) for place, test in enumerate(tests))


def test_every_named_test_is_of_a_check() -> None:
    assert TESTS.keys() == {find_name(module, function) for module, function, _ in POINTS}
