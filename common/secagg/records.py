"""What sites and server tell each other to mask a round: signed by the site that says it, read as if it were hostile.

A session is one try of one round. What is signed names it, so nothing that was said in one counts in another.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Self

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prostafed.common.errors import ConfigurationError, MaskError
from prostafed.common.exchange.messages import MOST_MASK_BYTES, SITE_NAME
from prostafed.common.exchange.released import MOST_COUNTED
from prostafed.common.shell.keys import is_signed, parse_public_key, say_public_key, sign

FEWEST_SITES, MOST_SITES = 3, 50  # two could tell each other's update from the sum; each site has a share of each

Name = Annotated[str, Field(pattern=f"^{SITE_NAME.pattern}$")]
Hex = Annotated[str, Field(pattern="^([0-9a-f]{2}){1,512}$")]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # also a key of X25519


class Record(BaseModel):
    """What is sent, in one form: equal records are equal bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def pack(self) -> bytes:
        """Return the bytes of the record."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()

    def fingerprint(self) -> str:
        """Return the hash of the record, in hexadecimal."""
        return hashlib.sha256(self.pack()).hexdigest()

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Return what `content` holds; raises MaskError where it is no such record."""
        try:
            if len(content) <= MOST_MASK_BYTES:
                return cls.model_validate_json(content)
        except ValidationError:  # its text would repeat what was sent
            pass
        raise MaskError(f"Expected {cls.__name__} of a masked round, found something else. Compare the releases.")


class Signed(Record):
    """What a site says and signs with the key that the coordinator enrolled."""

    site: Name
    signature: Hex | None = None

    def signed(self, session: str) -> bytes:
        """Return the bytes that are signed in a session."""
        said = self.model_dump(mode="json", exclude={"signature"})
        return json.dumps([type(self).__name__, session, said], sort_keys=True, separators=(",", ":")).encode()

    def sign(self, key: ec.EllipticCurvePrivateKey, session: str) -> Self:
        """Return the record with the site's signature."""
        return self.model_copy(update={"signature": sign(key, self.signed(session)).hex()})

    def verify(self, identity: str, session: str) -> None:
        """Raise MaskError unless the holder of the key `identity`, an OpenSSH line, has signed this in `session`."""
        key = read_identity(identity)
        if self.signature is None or not is_signed(key, self.signed(session), bytes.fromhex(self.signature)):
            raise MaskError(f"{type(self).__name__} of {self.site} is not signed with its key in this session.")


class Try(Record):
    """One try of a round: with the request's run, study, stage and round it makes a session."""

    number: Hash  # drawn by the server for this try alone
    digest: Hash  # of the global tensors


Line = Annotated[str, Field(pattern="^[A-Za-z0-9+/= -]{1,300}$")]  # a public key as OpenSSH writes it


class Enrolled(Record):
    """The hospitals that the coordinator has enrolled, and their public keys: who may take part."""

    sites: Annotated[dict[Name, Line], Field(max_length=4 * MOST_SITES)]


class Call(Try):
    """The server asks for keys. `enrolled`, as above, is for a person at the site to approve, and for nothing else."""

    enrolled: Annotated[dict[Name, Line], Field(max_length=4 * MOST_SITES)]


class Keys(Signed):
    """A site takes part: with so many cases, and these public keys of X25519 for this session."""

    identity: Line
    cases: Annotated[int, Field(ge=1, le=MOST_COUNTED)]
    sealing: Hash
    masking: Hash


class Offer(Record):
    """Keys, and whom the site would take part with: names and digests of keys; None: with anybody."""

    keys: Keys
    peers: dict[Name, Hash] | None


def _check_order(names: Sequence[str]) -> None:
    if list(names) != sorted(set(names)):
        raise ValueError("each site once, in the order of their names")


class AllKeys(Try):
    """The keys of all who take part, by name."""

    keys: Annotated[tuple[Keys, ...], Field(min_length=FEWEST_SITES, max_length=MOST_SITES)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_order(self.names)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The sites."""
        return tuple(each.site for each in self.keys)

    def of(self, site: str) -> Keys:
        """Return the keys of a site that takes part."""
        return next(each for each in self.keys if each.site == site)


class Shares(Signed):
    """A site's secrets in shares, each sealed for its receiver; `among`: digest of the keys they were made for."""

    among: Hash
    commitment: Hash  # of the seed of its own mask
    sealed: dict[Name, Hex]


class AllShares(Try):
    """Who masks together, by name."""

    shares: Annotated[tuple[Shares, ...], Field(min_length=FEWEST_SITES, max_length=MOST_SITES)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_order(self.names)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The sites."""
        return tuple(each.site for each in self.shares)


class Parts(Try):
    """Of a round without masks: the cases of all who take part, by name."""

    cases: dict[Name, Annotated[int, Field(ge=1, le=MOST_COUNTED)]]


class Survivors(Try):
    """Whose masked updates the server has."""

    survivors: tuple[Name, ...]


class Agreed(Signed):
    """A site has been told of these survivors, and will be of no others; `mixed`: digest of who masks together."""

    mixed: Hash
    survivors: tuple[Name, ...]


class AllAgreed(Try):
    """That the survivors are told of the same survivors."""

    agreed: Annotated[tuple[Agreed, ...], Field(max_length=MOST_SITES)]


class Opened(Record):
    """A site's shares: of the seeds of survivors' own masks, of the masking keys of those who dropped out."""

    seeds: dict[Name, Hex]
    keys: dict[Name, Hex]


def find_session(run: str, study_hash: str, stage: int, number: int, tried: Try) -> str:
    """Return the hash that is a session's name."""
    about = [run, study_hash, stage, number, tried.number, tried.digest]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def find_threshold(wanted: int, sites: int) -> int:
    """Return how many of `sites` take masks off: `wanted`, or, of 0, more than half.

    Raises MaskError where they are too few, or so few could do it that two halves of the sites could see two sums.
    """
    if sites < FEWEST_SITES:
        raise MaskError(f"{sites} sites would mask a round; of fewer than {FEWEST_SITES} a sum tells too much.")
    threshold = wanted or sites // 2 + 1
    if not sites < 2 * threshold <= 2 * sites:
        raise MaskError(
            f"The study's threshold is {threshold}; of {sites} sites it has to be more than half, and no more than all."
        )
    return threshold


def read_identity(line: str) -> ec.EllipticCurvePublicKey:
    """Return a site's public key; raises MaskError where the line is none, or not in its one form."""
    try:
        key = parse_public_key(line.encode(), "a site's key")
    except ConfigurationError as error:
        raise MaskError("The key that a site signs with is no ECDSA key on P-384.") from error
    if say_public_key(key).decode() != line:
        raise MaskError("The key that a site signs with is not written as OpenSSH writes it.")
    return key


def digest_identity(line: str) -> str:
    """Return the digest by which a public key is known."""
    return hashlib.sha256(line.encode()).hexdigest()
