"""A site's part in rounds that are summed: its update as whole numbers, under masks where the study asks for them.

What a session needs lies in masks/ of the stage's folder, for its owner alone, and is on the disk before anything is
said: a worker that was killed says the same again. It is removed once a later round begins. What stays is
memory/signed: the survivors this site has signed in each round of a study. One list a round, in however many runs,
sessions, weights or tries it is asked for: a server with two lists could subtract one sum from the other, and see what
a single site has sent.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from prostafed.client.site.site_file import Site
from prostafed.common.errors import CheckpointError, MaskError, PeerError, RequestError
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.secagg.fixed_point import FORMS, to_integers
from prostafed.common.secagg.keys import open_pair
from prostafed.common.secagg.masking import apply_masks
from prostafed.common.secagg.records import (
    Agreed,
    AllAgreed,
    AllKeys,
    AllShares,
    Call,
    Keys,
    Offer,
    Parts,
    Record,
    Shares,
    Survivors,
    Try,
    digest_identity,
    find_session,
)
from prostafed.common.secagg.steps import Party, agree, begin, find_masks, make_shares, mask_once, mix, open_shares
from prostafed.common.shell.files import holding, make_folder, write_bytes, write_json
from prostafed.common.shell.keys import open_node_key, read_private_key
from prostafed.common.study import Study
from prostafed.common.tensors import Tensors, hash_tensors

FOLDER, SIGNED, KEY = "masks", "signed", "site.key"
MOST_SESSIONS = 20  # of a round whose secrets are kept


@dataclass(frozen=True)
class Desk:
    """Where a site sums in a stage, and who it is. `peers`: the public keys of those it sums with, by name, as a person
    has approved them; None, in a simulation: anybody's.
    """

    folder: Path  # of the stage
    site: Site
    study: Study
    request: Request
    cases: int  # that the site trains on
    peers: Mapping[str, str] | None

    @cached_property
    def identity(self) -> ec.EllipticCurvePrivateKey:
        """The key that the site signs with: the enrolled one; in a simulation, where nobody is, one made for it."""
        if self.site.server is not None:
            return read_private_key(self.site.server.key)
        return open_node_key(make_folder(self.site.memory) / KEY, self.site.name)

    @property
    def threshold(self) -> int:
        """The study's, which no server chooses."""
        return self.study.privacy.threshold

    def find_session(self, tried: Try) -> str:
        """Return the session of a try of the round that is asked for."""
        asked = self.request
        return find_session(asked.run, asked.study_hash, asked.stage, asked.round, tried)


def is_summed(study: Study) -> bool:
    """Whether updates are added up as whole numbers."""
    return study.round.compress in FORMS


def answer_masks(desk: Desk) -> Reply:
    """Return the answer to a request about masks; raises MaskError where it does not verify, PeerError for a stranger's
    keys.
    """
    asked, masked = desk.request, desk.study.privacy.secure_aggregation
    if not is_summed(desk.study) or (asked.action != "keys" and not masked):
        raise RequestError(f"The study has no {asked.action}: its updates are not masked. Compare the releases.")
    said, cases = b"", 0
    if asked.action == "keys":
        cases = desk.cases
        said = _offer(desk, Call.read(asked.masks)) if masked else b""
    elif asked.action == "shares":
        said = _share(desk, AllKeys.read(asked.masks))
    elif asked.action == "agree":
        said = _agree(desk, Survivors.read(asked.masks))
    elif asked.action == "unmask":
        said = _open(desk, AllAgreed.read(asked.masks))
    return Reply(desk.site.name, asked.study_hash, asked.stage, asked.round, cases, masks=said)


def check_sum(desk: Desk, digest: str) -> None:
    """Raise MaskError where an update cannot be summed as a request to train says; nothing is trained for it then.
    `digest`: of the tensors that were sent.
    """
    if desk.study.privacy.secure_aggregation:
        mixed = AllShares.read(desk.request.masks)
        _check_digest(mixed, digest)
        _keep(desk, mix(_recall(desk, mixed), mixed, desk.threshold))
    else:
        _find_cases(desk, digest)


def make_summand(desk: Desk, reply: Reply, digest: str) -> Reply:
    """Return a trained answer as it leaves: its tensors as whole numbers, the site's part of the sum, masked where the
    study says so. The same answer again is the same numbers; another one is refused.
    """
    sent, rule = {name: desk.request.tensors[name] for name in reply.tensors}, desk.study.round.compress
    if reply.cases != desk.cases:
        raise MaskError(f"The site was to train on {desk.cases} cases and trained on {reply.cases}. Nothing was sent.")
    if not desk.study.privacy.secure_aggregation:
        return replace(reply, tensors=_to_part(sent, reply, _find_cases(desk, digest), rule))
    mixed = AllShares.read(desk.request.masks)
    _check_digest(mixed, digest)
    party = mix(_recall(desk, mixed), mixed, desk.threshold)
    assert party.among is not None, "it is mixed"
    whole = _to_part(sent, reply, {name: party.among.of(name).cases for name in mixed.names}, rule)
    party = mask_once(party, hash_tensors(whole))
    _keep(desk, party)
    apply_masks(whole, find_masks(party))
    return replace(reply, tensors=whole)


def _to_part(sent: Tensors, reply: Reply, cases: Mapping[str, int], rule: str) -> Tensors:
    return to_integers(sent, reply.tensors, Fraction(reply.cases, sum(cases.values())), rule)


def _find_cases(desk: Desk, digest: str) -> Mapping[str, int]:
    """Return the cases of all who take part in a round without masks."""
    parts = Parts.read(desk.request.masks)
    _check_digest(parts, digest)
    if parts.cases.get(desk.site.name) != desk.cases:
        raise MaskError(f"The round does not count this site with its {desk.cases} cases. Nothing was sent.")
    return parts.cases


def _check_digest(tried: Try, digest: str) -> None:
    if tried.digest != digest:
        raise MaskError("The round's weights are not those that its keys were asked for. Nothing was sent.")


def _offer(desk: Desk, tried: Try) -> bytes:
    _tidy(desk)
    session = desk.find_session(tried)
    party = _find(desk, session)
    if party is None:
        party = begin(session, desk.site.name, desk.cases, desk.identity)
        _keep(desk, party)
    peers = None if desk.peers is None else {name: digest_identity(line) for name, line in desk.peers.items()}
    return Offer(keys=party.keys, peers=peers).pack()


def _share(desk: Desk, among: AllKeys) -> bytes:
    if desk.peers is not None:
        _check_peers(among, desk.peers, desk.site.name)
    party = make_shares(_recall(desk, among), among, desk.threshold, desk.identity)
    _keep(desk, party)
    assert party.shares is not None, "they were made"
    return party.shares.pack()


def _check_peers(among: AllKeys, peers: Mapping[str, str], own: str) -> None:
    """Raise PeerError for keys of a hospital that nobody here approved, or of an approved one with another key."""
    for keys in among.keys:
        if keys.site != own and peers.get(keys.site) != keys.identity:
            known = "with another key than was approved here" if keys.site in peers else "which nobody approved here"
            raise PeerError(
                f"The round's masks name the hospital {keys.site}, {known}. Nothing was sent. If it is to take part, "
                "approve the study again."
            )


def _agree(desk: Desk, told: Survivors) -> bytes:
    return _sign(desk, _recall(desk, told), told.survivors).pack()


def _sign(desk: Desk, party: Party, survivors: tuple[str, ...]) -> Agreed:
    """Sign a list of survivors, in the session and for the round; raises MaskError for another one of the round."""
    party = agree(party, survivors, desk.threshold, desk.identity)
    assert party.agreed is not None, "it was signed"
    asked, number = desk.request, str(desk.request.round)
    place = make_folder(desk.site.memory / SIGNED) / f"{asked.study_hash}-stage-{asked.stage}.json"
    with holding(place.with_suffix(".lock"), wait=True):
        signed = _read_signed(place)
        if signed.setdefault(number, list(survivors)) != list(survivors):
            raise MaskError(
                f"In this round the sum of {', '.join(signed[number])} was agreed on before, in this run of the study "
                "or another; with another sum beside it one site's update could be told. Nothing was signed. The round "
                "needs the same sites again."
            )
        write_json(place, signed)
    _keep(desk, party)
    return party.agreed


def _open(desk: Desk, said: AllAgreed) -> bytes:
    """Return the shares; a site that was not waited for when the survivors signed signs now."""
    party = _recall(desk, said)
    if said.agreed:
        _sign(desk, party, said.agreed[0].survivors)
        party = _recall(desk, said)
    return open_shares(party, said, desk.threshold).pack()


def _read_signed(place: Path) -> dict[str, list[str]]:
    if not place.exists():
        return {}
    try:
        signed = json.loads(place.read_text(encoding="utf-8"))
        if all(isinstance(names, list) for names in signed.values()):
            return dict(signed)
    except (ValueError, AttributeError):
        pass
    raise CheckpointError(f"{place} is damaged: it says which sums were agreed on. Restore it from a copy.")


def _place(desk: Desk, session: str) -> Path:
    return desk.folder / FOLDER / f"round-{desk.request.round:05}-{session[:16]}.json"


def _tidy(desk: Desk) -> None:
    """Remove the secrets of other rounds and stages, and of this round's oldest sessions."""
    folder, own = make_folder(desk.folder / FOLDER), f"round-{desk.request.round:05}-*.json"
    kept = sorted(folder.glob(own), key=lambda path: path.stat().st_mtime_ns)[-MOST_SESSIONS + 1 :]
    for path in {*desk.folder.parent.glob(f"stage-*/{FOLDER}/round-*.json")} - {*kept}:
        path.unlink(missing_ok=True)


def _recall(desk: Desk, tried: Try) -> Party:
    party = _find(desk, desk.find_session(tried))
    if party is None:
        raise MaskError("The server goes on with a session of masks that was not begun here. Nothing was sent.")
    return party


def _find(desk: Desk, session: str) -> Party | None:
    """Return the site in a session as it was kept, None where the session was not begun."""
    path = _place(desk, session)
    if not path.exists():
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["session"] != session:
            raise ValueError(session)
        records: Mapping[str, type[Record]] = {"among": AllKeys, "shares": Shares, "mixed": AllShares, "agreed": Agreed}
        return Party(
            session=session,
            sealing=open_pair(bytes.fromhex(kept["sealing"])),
            masking=open_pair(bytes.fromhex(kept["masking"])),
            seed=bytes.fromhex(kept["seed"]),
            keys=Keys.model_validate_json(kept["keys"]),
            own=(bytes.fromhex(kept["own"][0]), bytes.fromhex(kept["own"][1])),
            payload=str(kept["payload"]),
            **{name: kind.model_validate_json(kept[name]) for name, kind in records.items() if kept[name]},  # type: ignore[arg-type]
        )
    except (KeyError, IndexError, TypeError, ValueError, ValidationError) as error:
        raise CheckpointError(f"{path}, secrets of a round's masks, is damaged. Remove it: the round fails.") from error


def _keep(desk: Desk, party: Party) -> None:
    """Keep the site in its session: on the disk when this returns, and for its owner alone."""
    records = {name: getattr(party, name) for name in ("keys", "among", "shares", "mixed", "agreed")}
    content = {
        "session": party.session,
        "sealing": party.sealing.private.hex(),
        "masking": party.masking.private.hex(),
        "seed": party.seed.hex(),
        "own": [share.hex() for share in party.own],
        "payload": party.payload,
        **{name: record.pack().decode() if record else "" for name, record in records.items()},
    }
    path = _place(desk, party.session)
    make_folder(path.parent)
    write_bytes(path, json.dumps(content).encode(), mode=0o600)
