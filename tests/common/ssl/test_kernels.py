"""Reads -> label and confidence -> kernel, by hand."""

import pytest

from prostafed.common.ssl.kernels import delta_kernel, summarise_reads


@pytest.mark.parametrize(
    ("reads", "paper", "code"),
    [
        ((), (None, 0.0), (None, 0.0)),
        ((4,), (1, 0.1), (1, 1.0)),
        ((2,), (0, 0.1), (0, 1.0)),
        ((3,), (None, 0.0), (None, 0.0)),
        ((4, 5, 4), (1, 1.0), (1, 1.0)),
        ((4, 5, 2), (1, 1 / 3), (1, 2 / 3)),
        ((4, 2), (None, 0.0), (None, 0.0)),  # an even split
        ((4, 4, 3), (1, 1 / 3), (1, 2 / 3)),  # an undecided read counts as a read
        ((1, 3, 3), (None, 0.0), (0, 1 / 3)),
        ((5, 5, 4, 4, 1, 2, 1), (1, 1 / 7), (1, 4 / 7)),  # the least confidence an odd number of reads up to 7 gives
    ],
)
def test_label_and_confidence(
    reads: tuple[int, ...], paper: tuple[int | None, float], code: tuple[int | None, float]
) -> None:
    for rule, (label, confidence) in (("paper", paper), ("code", code)):
        found_label, found_confidence = summarise_reads(reads, rule, 0.1)
        assert found_label == label
        assert found_confidence == pytest.approx(confidence)


def test_kernel_is_the_lesser_confidence_between_equal_labels() -> None:
    kernel = delta_kernel([0, 1, 1, None, None], [1.0, 0.6, 0.2, 0.0, 0.0])
    assert kernel[1, 2] == kernel[2, 1] == pytest.approx(0.2)
    kernel.fill_diagonal_(0.0)
    assert kernel.sum() == pytest.approx(0.4)
