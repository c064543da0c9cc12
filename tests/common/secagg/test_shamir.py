from contextlib import suppress
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prostafed.common.errors import MaskError
from prostafed.common.secagg.shamir import PRIME, SHARE_BYTES, join_shares, split_secret

SECRETS = st.one_of(st.binary(min_size=32, max_size=32), st.sampled_from([bytes(32), b"\xff" * 32]))


@settings(max_examples=60, deadline=None)
@given(secret=SECRETS, count=st.integers(1, 12), data=st.data())
def test_any_so_many_shares_give_the_secret(secret: bytes, count: int, data: st.DataObject) -> None:
    threshold = data.draw(st.integers(1, count))
    shares = split_secret(secret, threshold, count)
    places = data.draw(st.permutations(range(1, count + 1)))[: data.draw(st.integers(threshold, count))]
    assert join_shares({place: shares[place] for place in places}) == secret


def test_the_polynomial_by_hand() -> None:
    """f(x) = 7 + 2 x: f(1) = 9, f(3) = 13."""
    shares = {place: (7 + 2 * place).to_bytes(SHARE_BYTES, "big") for place in (1, 3)}
    assert join_shares(shares) == (7).to_bytes(32, "big")


def test_fewer_shares_fit_every_secret() -> None:
    """For two of three shares and any secret there is a third share with which they give it: they tell nothing."""
    shares = split_secret(b"s" * 32, 3, 3)
    x1, x2 = (int.from_bytes(shares[place], "big") for place in (1, 2))
    for secret in (0, 1, 2**255):
        third = (secret - 3 * x1 + 3 * x2) % PRIME  # 3 f(1) - 3 f(2) + f(3) = f(0)
        given_shares = {1: shares[1], 2: shares[2], 3: third.to_bytes(SHARE_BYTES, "big")}
        assert join_shares(given_shares) == secret.to_bytes(32, "big")


def test_fewer_shares_do_not_give_it() -> None:
    shares = split_secret(b"s" * 32, 3, 5)
    for two in combinations(shares, 2):
        with suppress(MaskError):  # what comes out is no secret at all
            assert join_shares({place: shares[place] for place in two}) != b"s" * 32


@pytest.mark.parametrize("share", [b"", b"1" * 32, PRIME.to_bytes(SHARE_BYTES, "big"), b"\xff" * SHARE_BYTES])
def test_what_is_no_share_is_refused(share: bytes) -> None:
    with pytest.raises(MaskError, match="below the prime"):
        join_shares({1: share, 2: bytes(SHARE_BYTES)})


def test_a_value_that_is_no_secret_is_refused() -> None:
    with pytest.raises(MaskError, match="do not fit together"):
        join_shares({1: (PRIME - 1).to_bytes(SHARE_BYTES, "big")})
