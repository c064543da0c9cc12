"""The exchanges of a round that is summed: keys, shares, train, agree, unmask; of one without masks keys and train.

What a site says is checked here before the others hear of it, so that who lies is left out alone. What cannot be
checked before, a share that fits nothing, leaves the round without a sum: it is tried again, in a new session.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from prostafed.common.errors import MaskError
from prostafed.common.exchange.arrays import NOTHING
from prostafed.common.exchange.kinds import UNMASKING
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.secagg.records import (
    Agreed,
    AllAgreed,
    AllKeys,
    AllShares,
    Call,
    Keys,
    Offer,
    Opened,
    Parts,
    Shares,
    Survivors,
    digest_identity,
    find_session,
    find_threshold,
)
from prostafed.common.secagg.unmasking import (
    Mixing,
    check_agreed,
    check_keys,
    check_opened,
    check_shares,
    find_left_over,
)
from prostafed.common.tensors import hash_tensors
from prostafed.server.exchange.admission import RejectedError
from prostafed.server.exchange.exchange import NOT_NEEDED, Exchange
from prostafed.server.run.run import Sites
from prostafed.server.run.summed import SummedUpdates

STRANGERS = "UNKNOWN_PEER"


@dataclass
class Asking:
    """A round that is asked for. `request` is the one to train."""

    sites: Sites
    request: Request
    quorum: int
    close_after: int
    threshold: int  # the study's; 0: more than half
    whole: Exchange = field(default_factory=Exchange)  # of all exchanges so far

    def ask(
        self, action: str, masks: bytes, sites: Sequence[str], take: Callable[[str, Reply], None], close_after: int = 0
    ) -> list[dict[str, str]]:
        """Ask `sites` one thing and return who gave no answer, each with the exchange, the code and the text."""
        trains = action == "train"
        request = replace(self.request, action=action, masks=masks)
        if not trains:
            request = replace(request, tensors={}, returns=NOTHING)

        def on_reply(site: str, reply: Reply) -> None:
            try:
                take(site, reply)
            except MaskError as error:
                raise RejectedError(error.code, str(error)) from error

        found = self.sites.ask(request, sites, on_reply, close_after)
        self.whole.bytes_down += found.bytes_down
        self.whole.bytes_up += found.bytes_up
        self.whole.late = [*self.whole.late, *found.late]
        if trains:
            self.whole.replies = found.replies
        if action in ("keys", "shares", "train"):
            self.whole.rejections = sorted([*self.whole.rejections, *found.rejections], key=lambda entry: entry["site"])
        return [{**entry, "exchange": action} for entry in found.rejections if entry["code"] != NOT_NEEDED]


def ask_summed(asking: Asking, chosen: Sequence[str], masked: bool, updates: SummedUpdates) -> Exchange:
    """Ask `chosen` for a round, let `updates` add it up, and return what came of it; `updates.problem` says why there
    is no sum.
    """
    digest = hash_tensors(asking.request.tensors)
    call = Call(number=secrets.token_hex(32), digest=digest, enrolled=dict(asking.sites.enrolled) if masked else {})
    try:
        if masked:
            _ask_masked(asking, chosen, call, updates)
        else:
            _ask_open(asking, chosen, call, updates)
    except MaskError as error:
        # Who failed before has its rejection; those asked to take masks off have none: their updates count.
        why = [f"{each['site']}: {each['code']}" for each in updates.dropped if each["exchange"] in UNMASKING]
        updates.problem = f"{error.code}: {str(error).rstrip('.')}"
        updates.problem += f" ({', '.join(why)})" if why else ""
    return asking.whole


def _ask_open(asking: Asking, chosen: Sequence[str], call: Call, updates: SummedUpdates) -> None:
    cases: dict[str, int] = {}

    def take(site: str, reply: Reply) -> None:
        if reply.cases < 1:
            raise RejectedError("NO_CASES", f"the reply counts {reply.cases} cases")
        cases[site] = reply.cases

    updates.dropped += asking.ask("keys", call.pack(), chosen, take)
    if not cases:
        return
    updates.expect(cases)
    parts = Parts(number=call.number, digest=call.digest, cases=cases).pack()
    updates.dropped += asking.ask("train", parts, sorted(cases), updates.take, asking.close_after)


def _ask_masked(asking: Asking, chosen: Sequence[str], call: Call, updates: SummedUpdates) -> None:
    asked, tried = asking.request, {"number": call.number, "digest": call.digest}
    session = find_session(asked.run, asked.study_hash, asked.stage, asked.round, call)
    keys = _ask_keys(asking, chosen, call, session, updates)
    needed = find_threshold(asking.threshold, len(keys))
    among = AllKeys(**tried, keys=tuple(keys[site] for site in sorted(keys)))
    shares: dict[str, Shares] = {}

    def take_shares(site: str, reply: Reply) -> None:
        made = Shares.read(reply.masks)
        check_shares(made, site, among, session)
        shares[site] = made

    updates.dropped += asking.ask("shares", among.pack(), among.names, take_shares)
    _require(len(shares), max(needed, 3), "sites made shares")
    mixed = AllShares(**tried, shares=tuple(shares[site] for site in sorted(shares)))
    mixing = Mixing(session, among, mixed, asking.threshold)
    updates.expect({site: keys[site].cases for site in mixed.names})
    updates.dropped += asking.ask("train", mixed.pack(), mixed.names, updates.take, asking.close_after)
    survivors = tuple(sorted(updates.replies))
    _require(len(survivors), max(needed, asking.quorum), "masked updates came")
    opened = _ask_unmasking(asking, survivors, mixing, updates)
    updates.unmask(find_left_over(opened, survivors, mixing))


def _ask_keys(
    asking: Asking, chosen: Sequence[str], call: Call, session: str, updates: SummedUpdates
) -> dict[str, Keys]:
    """Return the keys of those who would all mask with each other."""
    offers: dict[str, Offer] = {}

    def take(site: str, reply: Reply) -> None:
        offer = Offer.read(reply.masks)
        check_keys(offer.keys, site, session)
        offers[site] = offer

    updates.dropped += asking.ask("keys", call.pack(), chosen, take)
    strangers = leave_out_strangers(offers)
    for site, others in strangers.items():
        text = (
            f"its key is not approved at {', '.join(others)}, or theirs not there; who is to take part is approved "
            "again at those: prostafed-site requests"
        )
        entry = {"site": site, "code": STRANGERS, "text": text}
        asking.whole.rejections.append(entry)
        updates.dropped.append({**entry, "exchange": "keys"})
    return {site: offer.keys for site, offer in offers.items() if site not in strangers}


def leave_out_strangers(offers: Mapping[str, Offer]) -> dict[str, list[str]]:
    """Return who is left out so that all others have approved each other, each with whom that fails."""
    there, left_out = sorted(offers), dict[str, list[str]]()
    while there:
        strange = {
            site: [
                other
                for other in there
                if other != site and not (_knows(offers[other], offers[site]) and _knows(offers[site], offers[other]))
            ]
            for site in there
        }
        worst = max(there, key=lambda site: len(strange[site]))
        if not strange[worst]:
            break
        left_out[worst] = strange[worst]
        there.remove(worst)
    return left_out


def _knows(one: Offer, other: Offer) -> bool:
    return one.peers is None or one.peers.get(other.keys.site) == digest_identity(other.keys.identity)


def _ask_unmasking(
    asking: Asking, survivors: tuple[str, ...], mixing: Mixing, updates: SummedUpdates
) -> dict[str, Opened]:
    """Return the shares of as many survivors as it takes; the others may be gone."""
    needed = find_threshold(mixing.threshold, len(mixing.among.names))
    tried = {"number": mixing.among.number, "digest": mixing.among.digest}
    agreed: dict[str, Agreed] = {}
    opened: dict[str, Opened] = {}

    def take_agreed(site: str, reply: Reply) -> None:
        signed = Agreed.read(reply.masks)
        check_agreed(signed, site, survivors, mixing)
        agreed[site] = signed

    def take_opened(site: str, reply: Reply) -> None:
        shares = Opened.read(reply.masks)
        check_opened(shares, survivors, mixing)
        opened[site] = shares

    told = Survivors(**tried, survivors=survivors)
    updates.dropped += asking.ask("agree", told.pack(), survivors, take_agreed, needed)
    _require(len(agreed), needed, "sites agreed on who has sent an update")
    said = AllAgreed(**tried, agreed=tuple(agreed[site] for site in sorted(agreed)))
    updates.dropped += asking.ask("unmask", said.pack(), survivors, take_opened, needed)
    _require(len(opened), needed, "sites helped to take the masks off")
    return opened


def _require(count: int, needed: int, what: str) -> None:
    if count < needed:
        raise MaskError(f"{count} {what}, {needed} are needed")
