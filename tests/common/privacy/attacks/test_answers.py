"""What two answers, or a histogram, give away: by hand."""

import numpy as np
import pytest

from prostafed.common.metrics.histograms import ScoreHistogram, bin_scores
from prostafed.common.privacy.attacks.answers import read_cells, subtract_answers


def test_every_patient_with_a_value_of_the_own_is_named() -> None:
    found = subtract_answers("north", [0.1, 0.2, 0.4, 0.9])
    assert (found.value, found.chance, found.verdict) == (1.0, 0.25, "above chance")
    assert 0 < found.low < 1


def test_patients_who_are_alike_hide_each_other() -> None:
    assert subtract_answers("north", [0.5, 0.5, 0.5, 0.5]).value == pytest.approx(0.25)
    assert subtract_answers("north", [0.5, 0.5, 0.2, 0.9]).value == pytest.approx(0.75)


def test_one_patient_is_no_candidate() -> None:
    with pytest.raises(ValueError, match="two patients"):
        subtract_answers("north", [0.5])


def test_cells_of_one_label_give_it_away() -> None:
    found = read_cells("north", ScoreHistogram((0, 10, 20), (10, 20, 256), (0, 2, 1), (3, 2, 0)))
    assert found is not None
    assert found.value == pytest.approx(4 / 8)  # three without csPCa in the first cell, one with it in the last
    assert found.variant == "smallest cell 1, cells of one case 1"
    assert found.of == "8 test cases in 3 cells"
    assert found.chance == 0


def test_joined_cells_give_less_away_and_an_empty_histogram_nothing() -> None:
    generator = np.random.default_rng(0)
    labels, scores = generator.random(60) < 0.4, generator.random(60)
    shares = []
    for minimum in (1, 10):
        histogram = bin_scores(labels, scores, minimum=minimum)
        assert histogram is not None
        found = read_cells("north", histogram)
        assert found is not None
        shares.append(found.value)
    assert shares[0] > 0.7
    assert shares[1] == 0
    assert read_cells("north", ScoreHistogram((0,), (256,), (0,), (0,))) is None


def test_where_all_have_one_label_it_follows_without_a_histogram() -> None:
    found = read_cells("north", ScoreHistogram((0, 9), (9, 256), (0, 0), (3, 2)))
    assert found is not None
    assert (found.value, found.chance, found.verdict) == (1.0, 1.0, "not above chance")
