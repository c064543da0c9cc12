"""A site's part in a masked round, step by step (Bonawitz et al. 2017, with active adversaries, figure 4).

    keys      two key pairs of this session, signed
    shares    the seed of the site's own mask, and its masking key, in shares for the others
    mask      q + PRG(seed) + sum over the others of +-PRG(common key), + towards names behind its own
    agree     signs the list of survivors: one list, ever
    open      given as many signatures of that list as the threshold: shares of the seeds of survivors, and of the
              masking keys of those who dropped out; never both of one site

The last two steps are always taken, also where nobody drops out. A server that could take the masks off alone once all
have answered could say of any site that it dropped out, and subtract one sum from the other.

What a step has said it says again when it is asked the same again, and it says nothing else. A site whose trained
update is a lie is not found out: its norm is bounded, no more.
"""

import secrets as system
from dataclasses import dataclass, replace
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from prostafed.common.errors import MaskError
from prostafed.common.secagg.keys import Pair, commit, derive_key, make_pair, seal, share_key, unseal
from prostafed.common.secagg.masking import Masks
from prostafed.common.secagg.records import Agreed, AllAgreed, AllKeys, AllShares, Keys, Opened, Shares, find_threshold
from prostafed.common.secagg.shamir import SECRET_BYTES, SHARE_BYTES, split_secret
from prostafed.common.shell.keys import say_public_key

Told = TypeVar("Told")


@dataclass(frozen=True)
class Party:
    """A site in a session, with what it has to keep to itself."""

    session: str
    sealing: Pair
    masking: Pair
    seed: bytes
    keys: Keys
    among: AllKeys | None = None
    shares: Shares | None = None
    own: tuple[bytes, bytes] = (b"", b"")  # its own shares of its seed and its masking key
    mixed: AllShares | None = None
    payload: str = ""  # digest of the whole numbers that were masked
    agreed: Agreed | None = None


def begin(session: str, site: str, cases: int, identity: ec.EllipticCurvePrivateKey) -> Party:
    """Return a site at the start of a session; `keys` is what it tells."""
    sealing, masking = make_pair(), make_pair()
    public = say_public_key(identity.public_key()).decode()
    keys = Keys(
        site=site, identity=public, cases=cases, sealing=sealing.public.hex(), masking=masking.public.hex()
    ).sign(identity, session)
    return Party(session, sealing, masking, system.token_bytes(SECRET_BYTES), keys)


def make_shares(party: Party, among: AllKeys, threshold: int, identity: ec.EllipticCurvePrivateKey) -> Party:
    """Return the site once its secrets are in shares for all of `among`, whose names and keys somebody else has held
    against those it knows; `shares` is what it tells.

    Raises MaskError for signatures that do not verify, a threshold that is not the study's (`threshold`, or 0: more
    than half), its own keys among the others' changed, and for others than it was told before.
    """
    _check_same(party.among, among, "keys")
    if party.shares is not None:
        return party
    site, session, names = party.keys.site, party.session, among.names
    if site not in names or among.of(site) != party.keys:
        raise MaskError("The round's masks do not name this site with the keys it has told. Nothing was sent.")
    for each in among.keys:
        each.verify(each.identity, session)
    needed = find_threshold(threshold, len(names))
    parts = [split_secret(secret, needed, len(names)) for secret in (party.seed, party.masking.private)]
    both = {name: tuple(part[place] for part in parts) for place, name in enumerate(names, start=1)}
    sealed = {
        name: seal(b"".join(both[name]), _sealing_key(party, among, name, site, name), _say(session, site, name)).hex()
        for name in names
        if name != site
    }
    shares = Shares(site=site, among=among.fingerprint(), commitment=commit(party.seed, session), sealed=sealed)
    return replace(party, among=among, shares=shares.sign(identity, session), own=(both[site][0], both[site][1]))


def mix(party: Party, mixed: AllShares, threshold: int) -> Party:
    """Return the site once it knows who masks together; raises MaskError where they are fewer than the threshold, or
    not all have made sound shares of the same keys.
    """
    among = _need(party.among, "shares")
    _check_same(party.mixed, mixed, "sites that mask together")
    if party.mixed is not None:
        return party
    site, needed = party.keys.site, find_threshold(threshold, len(among.names))
    if not set(mixed.names) <= set(among.names) or len(mixed.names) < needed or party.shares not in mixed.shares:
        raise MaskError(f"Those who mask together are not {needed} or more of those whose keys were told.")
    for each in mixed.shares:
        each.verify(among.of(each.site).identity, party.session)
        if each.among != among.fingerprint() or set(each.sealed) != set(among.names) - {each.site}:
            raise MaskError(f"The shares of {each.site} are not for those whose keys were told here.")
        if each.site != site:
            _unseal(party, each, among)
    return replace(party, mixed=mixed)


def find_masks(party: Party) -> Masks:
    """Return the masks of a site that knows who masks together."""
    among, mixed = _need(party.among, "shares"), _need(party.mixed, "sites that mask together")
    site, own = party.keys.site, [derive_key(party.seed, party.session, "own mask")]
    common = {
        name: pair_key(party.masking.private, among, site, name, party.session) for name in mixed.names if name != site
    }
    return Masks(
        add=(*own, *(key for name, key in common.items() if site < name)),
        take=tuple(key for name, key in common.items() if site > name),
    )


def pair_key(private: bytes, among: AllKeys, site: str, other: str, session: str) -> bytes:
    """Return the key of the mask that `site`, whose masking key is given, and `other` have in common."""
    purpose = f"common mask|{min(site, other)}|{max(site, other)}"
    return share_key(private, bytes.fromhex(among.of(other).masking), session, purpose)


def mask_once(party: Party, payload: str) -> Party:
    """Return the site once it masks whole numbers with the digest `payload`; raises MaskError for others than before:
    with the same masks they would tell their difference.
    """
    if party.payload not in ("", payload):
        raise MaskError("Another update was masked in this session already. Nothing was sent.")
    return replace(party, payload=payload)


def agree(party: Party, survivors: tuple[str, ...], threshold: int, identity: ec.EllipticCurvePrivateKey) -> Party:
    """Return the site once it has signed the list of survivors; raises MaskError for another list than before, one with
    fewer than the threshold, or with somebody who did not mask.
    """
    mixed, among = _need(party.mixed, "sites that mask together"), _need(party.among, "shares")
    if party.agreed is not None:
        if party.agreed.survivors != survivors:
            raise MaskError("Another list of survivors was signed in this session already. Nothing was sent.")
        return party
    needed = find_threshold(threshold, len(among.names))
    ordered = list(survivors) == sorted(set(survivors))
    if not ordered or not set(survivors) <= set(mixed.names) or len(survivors) < needed:
        raise MaskError(f"The survivors are not {needed} or more of those who masked, each once, by name.")
    if not party.payload or party.keys.site not in survivors:
        raise MaskError("The survivors leave this site out, or its update has not left. Nothing was signed.")
    agreed = Agreed(site=party.keys.site, mixed=mixed.fingerprint(), survivors=survivors)
    return replace(party, agreed=agreed.sign(identity, party.session))


def open_shares(party: Party, said: AllAgreed, threshold: int) -> Opened:
    """Return the shares that take off the masks of the survivors' sum; raises MaskError unless as many survivors as the
    threshold have signed the list that this site has signed.
    """
    among, mixed, own = _need(party.among, "shares"), _need(party.mixed, "masks"), _need(party.agreed, "survivors")
    for each in said.agreed:
        if each.site not in own.survivors or (each.mixed, each.survivors) != (own.mixed, own.survivors):
            raise MaskError(f"{each.site} was told of other survivors than this site. Nothing was sent.")
        each.verify(among.of(each.site).identity, party.session)
    needed = find_threshold(threshold, len(among.names))
    if len({each.site for each in said.agreed}) < needed:
        raise MaskError(f"Fewer than {needed} survivors have signed who they are. Nothing was sent.")
    held = {each.site: _unseal(party, each, among) for each in mixed.shares if each.site != party.keys.site}
    held[party.keys.site] = party.own
    return Opened(
        seeds={name: seed.hex() for name, (seed, _) in held.items() if name in own.survivors},
        keys={name: key.hex() for name, (_, key) in held.items() if name not in own.survivors},
    )


def _unseal(party: Party, shares: Shares, among: AllKeys) -> tuple[bytes, bytes]:
    """Return the shares of another site's seed and masking key that are for this one."""
    sender, site = shares.site, party.keys.site
    key = _sealing_key(party, among, sender, sender, site)
    both = unseal(bytes.fromhex(shares.sealed[site]), key, _say(party.session, sender, site))
    if len(both) != 2 * SHARE_BYTES:
        raise MaskError(f"The shares of {sender} have another size than expected.")
    return both[:SHARE_BYTES], both[SHARE_BYTES:]


def _sealing_key(party: Party, among: AllKeys, other: str, sender: str, receiver: str) -> bytes:
    public = bytes.fromhex(among.of(other).sealing)
    return share_key(party.sealing.private, public, party.session, f"shares|{sender}|{receiver}")


def _say(session: str, sender: str, receiver: str) -> str:
    return f"{session}|{sender} to {receiver}"


def _check_same(before: Told | None, now: Told, what: str) -> None:
    if before is not None and before != now:
        raise MaskError(f"Other {what} were told in this session already. Nothing was sent.")


def _need(told: Told | None, what: str) -> Told:
    if told is None:
        raise MaskError(f"The session's {what} are not known here: a step was left out. Nothing was sent.")
    return told
