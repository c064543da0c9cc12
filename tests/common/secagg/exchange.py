"""A masked round in this process: sites and server, and whatever may go wrong between them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from prostafed.common.secagg.fixed_point import open_total, to_integers
from prostafed.common.secagg.masking import add_to, apply_masks
from prostafed.common.secagg.records import Agreed, AllAgreed, AllKeys, AllShares, Keys, Opened, Shares
from prostafed.common.secagg.steps import Party, agree, begin, find_masks, make_shares, mask_once, mix, open_shares
from prostafed.common.secagg.unmasking import (
    Mixing,
    check_agreed,
    check_keys,
    check_opened,
    check_shares,
    find_left_over,
)
from prostafed.common.tensors import Tensors, hash_tensors

Said = TypeVar("Said")
SESSION, DIGEST = "5e" * 32, "d1" * 32
TRY = {"number": "7a" * 32, "digest": DIGEST}


@lru_cache(maxsize=100)
def identity(site: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def name_sites(count: int) -> list[str]:
    return [f"site-{number:02}" for number in range(count)]


def make_global() -> Tensors:
    rng = np.random.default_rng(0)
    return {
        "encoder.bias": np.zeros(3, np.float32),
        "encoder.conv": rng.normal(size=(5, 7)).astype(np.float32),
        "encoder.count": np.array([4], np.int64),
    }


def make_trained(site: str, sent: Tensors) -> Tensors:
    rng = np.random.default_rng(int(site[-2:]))
    return {name: (array + rng.normal(size=array.shape) * 0.03).astype(array.dtype) for name, array in sent.items()}


def count_cases(site: str) -> int:
    return 20 + 7 * int(site[-2:])


def pass_on(step: str, site: str, said: object) -> object:
    return said


@dataclass
class Exchange:
    """`dropped` says who answers no more, by step; `on_the_way` may change what a site says."""

    sites: list[str]
    threshold: int = 0
    rule: str = "fixed32"
    dropped: Mapping[str, set[str]] = field(default_factory=dict)
    on_the_way: Callable[[str, str, object], object] = pass_on
    parties: dict[str, Party] = field(default_factory=dict)
    uploads: dict[str, Tensors] = field(default_factory=dict)

    def run(self) -> tuple[Tensors, tuple[str, ...]]:
        """Return the sum of the survivors' whole numbers, and who they are."""
        sent, there = make_global(), self.sites
        there = self._stay(there, "keys")
        self.parties = {site: begin(SESSION, site, count_cases(site), identity(site)) for site in there}
        keys = [self._say("keys", site, self.parties[site].keys, Keys) for site in there]
        for each, site in zip(keys, there, strict=True):
            check_keys(each, site, SESSION)
        among = AllKeys(**TRY, keys=tuple(keys))
        there = self._stay(there, "shares")
        for site in there:
            self.parties[site] = make_shares(self.parties[site], among, self.threshold, identity(site))
        shares = [self._say("shares", site, self.parties[site].shares, Shares) for site in there]
        for made, site in zip(shares, there, strict=True):
            check_shares(made, site, among, SESSION)
            self.parties[site] = replace(self.parties[site], shares=made)  # who lies remembers what it has said
        mixed = AllShares(**TRY, shares=tuple(shares))
        mixing, total = Mixing(SESSION, among, mixed, self.threshold), open_total(sent, self.rule)
        there = self._stay(there, "train")
        for site in there:
            party = mix(self.parties[site], mixed, self.threshold)
            whole = find_plain(sent, site, mixed.names, self.rule)
            self.parties[site] = mask_once(party, hash_tensors(whole))
            apply_masks(whole, find_masks(self.parties[site]))
            self.uploads[site] = whole
            add_to(total, whole)
        survivors = tuple(there)
        there = self._stay(there, "agree")
        for site in there:
            self.parties[site] = agree(self.parties[site], survivors, self.threshold, identity(site))
        agreed = [self._say("agree", site, self.parties[site].agreed, Agreed) for site in there]
        for signed, site in zip(agreed, there, strict=True):
            check_agreed(signed, site, survivors, mixing)
        said = AllAgreed(**TRY, agreed=tuple(agreed))
        there = self._stay(there, "unmask")
        opened = {
            site: self._say("unmask", site, open_shares(self.parties[site], said, self.threshold), Opened)
            for site in there
        }
        for each_opened in opened.values():
            check_opened(each_opened, survivors, mixing)
        apply_masks(total, find_left_over(opened, survivors, mixing))
        return total, survivors

    def _stay(self, there: list[str], step: str) -> list[str]:
        return [site for site in there if site not in self.dropped.get(step, set())]

    def _say(self, step: str, site: str, said: object, kind: type[Said]) -> Said:
        said = self.on_the_way(step, site, said)
        assert isinstance(said, kind)
        return said


def find_plain(sent: Tensors, site: str, together: tuple[str, ...], rule: str) -> Tensors:
    share = Fraction(count_cases(site), sum(map(count_cases, together)))
    return to_integers(sent, make_trained(site, sent), share, rule)


def sum_plain(survivors: tuple[str, ...], together: tuple[str, ...], rule: str) -> Tensors:
    sent = make_global()
    total = open_total(sent, rule)
    for site in reversed(survivors):
        add_to(total, find_plain(sent, site, together, rule))
    return total
