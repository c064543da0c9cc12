import pytest

from prostafed.common.errors import MaskError
from prostafed.common.secagg.keys import commit, make_pair, open_pair, seal, share_key, unseal

SESSION, OTHER = "5e" * 32, "5f" * 32


def test_two_sites_find_the_same_key_and_a_third_another() -> None:
    north, south, west = make_pair(), make_pair(), make_pair()
    key = share_key(north.private, south.public, SESSION, "mask")
    assert key == share_key(south.private, north.public, SESSION, "mask")
    assert key != share_key(west.private, south.public, SESSION, "mask")
    assert key != share_key(north.private, south.public, OTHER, "mask")
    assert key != share_key(north.private, south.public, SESSION, "shares")


def test_a_pair_is_that_of_its_private_key() -> None:
    pair = make_pair()
    assert open_pair(pair.private) == pair != make_pair()


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31)])
def test_a_point_that_gives_everybody_the_same_key_is_refused(public: bytes) -> None:
    with pytest.raises(MaskError, match="none of X25519"):
        share_key(make_pair().private, public, SESSION, "mask")


def test_what_is_sealed_is_opened_by_its_receiver_as_it_was() -> None:
    key = make_pair().private
    sealed = seal(b"shares", key, "north to south")
    assert b"shares" not in sealed
    assert unseal(sealed, key, "north to south") == b"shares"
    for changed, opener, about in [
        (bytes([sealed[0] ^ 1]) + sealed[1:], key, "north to south"),
        (sealed, make_pair().private, "north to south"),
        (sealed, key, "south to north"),
        (sealed[:-1], key, "north to south"),
    ]:
        with pytest.raises(MaskError, match="was changed, or is another's"):
            unseal(changed, opener, about)


def test_a_commitment_is_to_one_secret_in_one_session() -> None:
    assert commit(b"a" * 32, SESSION) == commit(b"a" * 32, SESSION)
    assert len({commit(b"a" * 32, SESSION), commit(b"b" * 32, SESSION), commit(b"a" * 32, OTHER)}) == 3
