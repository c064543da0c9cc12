"""The server's part in a masked round: what it takes of a site, and how the masks are taken off the sum.

It holds public keys, sealed shares and one sum. A wrong share is noticed: a site has told the hash of its seed and its
public masking key before, and no sum is used whose masks do not fit them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from prostafed.common.errors import MaskError
from prostafed.common.secagg.keys import commit, derive_key, open_pair
from prostafed.common.secagg.masking import Masks
from prostafed.common.secagg.records import Agreed, AllKeys, AllShares, Keys, Opened, Shares, find_threshold
from prostafed.common.secagg.shamir import SHARE_BYTES, join_shares
from prostafed.common.secagg.steps import pair_key


@dataclass(frozen=True)
class Mixing:
    """Who masks together in a session."""

    session: str
    among: AllKeys
    mixed: AllShares
    threshold: int  # the study's; 0: more than half


def check_keys(keys: Keys, site: str, session: str) -> None:
    """Raise MaskError unless these are keys that `site` has signed, with whatever key it has."""
    if keys.site != site:
        raise MaskError(f"The keys name the site {keys.site}.")
    keys.verify(keys.identity, session)


def check_shares(shares: Shares, site: str, among: AllKeys, session: str) -> None:
    """Raise MaskError unless these are the shares of `site` for the others of `among`."""
    if (shares.site, shares.among) != (site, among.fingerprint()):
        raise MaskError("The shares are another site's, or for others than those who take part.")
    if set(shares.sealed) != set(among.names) - {site}:
        raise MaskError("The shares are not one for each of the others.")
    shares.verify(among.of(site).identity, session)


def check_agreed(agreed: Agreed, site: str, survivors: tuple[str, ...], mixing: Mixing) -> None:
    """Raise MaskError unless `site` has signed this list of survivors."""
    if (agreed.site, agreed.survivors, agreed.mixed) != (site, survivors, mixing.mixed.fingerprint()):
        raise MaskError("Another list of survivors was signed than was asked for.")
    agreed.verify(mixing.among.of(site).identity, mixing.session)


def check_opened(opened: Opened, survivors: tuple[str, ...], mixing: Mixing) -> None:
    """Raise MaskError unless these are shares of the right secrets, in form."""
    dropped = set(mixing.mixed.names) - set(survivors)
    if set(opened.seeds) != set(survivors) or set(opened.keys) != dropped:
        raise MaskError("The shares are not those of all seeds of survivors and of all keys of others.")
    if any(len(share) != 2 * SHARE_BYTES for share in (*opened.seeds.values(), *opened.keys.values())):
        raise MaskError(f"A share is not one of {SHARE_BYTES} bytes.")


def find_left_over(opened: Mapping[str, Opened], survivors: tuple[str, ...], mixing: Mixing) -> Masks:
    """Return the masks with which the sum of the survivors' updates is the sum of their whole numbers, `opened` being
    what sites have told, by site.

    Raises MaskError where fewer than the threshold have, and where what the shares give is not what was told before.
    """
    among, session = mixing.among, mixing.session
    needed = find_threshold(mixing.threshold, len(among.names))
    if len(opened) < needed:
        raise MaskError(f"{len(opened)} sites helped to take the masks off, {needed} are needed.")
    places = {site: place for place, site in enumerate(among.names, start=1)}
    helping = sorted(opened)[:needed]
    take, add = list[bytes](), list[bytes]()
    for shares in mixing.mixed.shares:
        name = shares.site
        if name in survivors:
            seed = join_shares({places[site]: bytes.fromhex(opened[site].seeds[name]) for site in helping})
            if commit(seed, session) != shares.commitment:
                raise MaskError(f"The shares of {name} do not give the mask that it has told of.")
            take.append(derive_key(seed, session, "own mask"))
            continue
        private = join_shares({places[site]: bytes.fromhex(opened[site].keys[name]) for site in helping})
        if open_pair(private).public.hex() != among.of(name).masking:
            raise MaskError(f"The shares of {name} do not give the key that it has told of.")
        for survivor in survivors:  # has added the common mask where its own name comes first
            key = pair_key(private, among, name, survivor, session)
            (take if survivor < name else add).append(key)
    return Masks(tuple(add), tuple(take))
