"""Epochs in batches."""

from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from prostafed.client.training.feed import split_batches


@given(count=st.integers(1, 60), size=st.integers(1, 12), seed=st.integers(0, 99))
def test_an_epoch_holds_every_case_once_in_nearly_equal_batches(count: int, size: int, seed: int) -> None:
    batches = list(split_batches(count, size, Generator().manual_seed(seed)))
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
