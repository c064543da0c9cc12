"""Pooled values from histograms: by hand, against the cases themselves, and within their stated bounds."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest

from prostafed.common.metrics.bootstrap import bootstrap_interval
from prostafed.common.metrics.detection import LESION_AP
from prostafed.common.metrics.diagnosis import AUROC, AVERAGE_PRECISION
from prostafed.common.metrics.federated import (
    BinnedEstimate,
    pooled_auroc,
    pooled_average_precision,
    pooled_lesion_ap,
)
from prostafed.common.metrics.histograms import (
    BINS,
    DetectionHistogram,
    ScoreHistogram,
    bin_detections,
    bin_predictions,
    bin_scores,
    merge_detections,
    merge_scores,
)
from prostafed.common.metrics.predictions import CasePrediction
from tests.common.metrics.of_arrays import auroc, average_precision

Site = tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]
FEDERATIONS = 1000


def make_federation(generator: np.random.Generator, sizes: npt.NDArray[np.int_]) -> list[Site]:
    """Sites of one model: logits of both labels are normal; prevalence, bias and separation differ between sites."""
    separation, bias, scale = generator.uniform(0.3, 2.6), generator.uniform(-3, 0), generator.uniform(0.5, 2)
    sites = []
    for size in sizes:
        labels = generator.random(size) < generator.uniform(0.2, 0.5)
        distance = separation * (1 + generator.normal(0, 0.15))
        logits = bias + generator.normal(0, 0.4) + scale * (generator.standard_normal(size) + distance * labels)
        sites.append((labels, 1 / (1 + np.exp(-logits))))
    return sites


def make_federations(count: int, smallest: int, largest: int, seed: int = 0) -> Iterator[list[Site]]:
    """2 to 10 sites each, of sizes even in the logarithm."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        sizes = np.exp(generator.uniform(np.log(smallest), np.log(largest), generator.integers(2, 11))).astype(int)
        yield make_federation(generator, sizes)


def pool(sites: list[Site]) -> Site:
    return np.concatenate([labels for labels, _ in sites]), np.concatenate([scores for _, scores in sites])


def bin_sites(sites: list[Site], minimum: int = 10) -> ScoreHistogram:
    histograms = [bin_scores(labels, scores, minimum=minimum) for labels, scores in sites]
    return merge_scores([histogram for histogram in histograms if histogram is not None])


def binning_error(found: BinnedEstimate) -> float:
    return max(found.value - found.lowest, found.highest - found.value)


def test_cells_apart_leave_nothing_open() -> None:
    histogram = ScoreHistogram((0, 100), (100, BINS), (0, 5), (4, 0))
    assert pooled_auroc(histogram) == BinnedEstimate(1.0, 1.0, 1.0, 1.0, 1.0)
    assert pooled_average_precision(histogram, resamples=0) == BinnedEstimate(1.0, None, None, 1.0, 1.0)


def test_one_cell_leaves_everything_open() -> None:
    found = pooled_auroc(ScoreHistogram((0,), (BINS,), (3,), (2,)), resamples=0)
    assert found is not None
    assert (found.value, found.lowest, found.highest) == (pytest.approx(0.5), 0.0, 1.0)
    assert binning_error(found) == pytest.approx(0.5)
    precision = pooled_average_precision(ScoreHistogram((0,), (BINS,), (2,), (1,)), resamples=0)
    assert precision is not None
    assert (precision.lowest, precision.highest) == ((1 / 2 + 2 / 3) / 2, 1.0)


def test_bounds_by_hand() -> None:
    """Cells 0 and 1 of one site: pairs between them are known, one in three of each within them is not."""
    found = pooled_auroc(ScoreHistogram((0, 128), (128, BINS), (1, 2), (2, 1)), resamples=0)
    assert found is not None
    # Of 9 pairs, 2 x 2 are right, 1 x 1 is wrong; 1 x 2 in the lower cell and 2 x 1 in the upper one are open.
    assert (found.lowest, found.highest) == (pytest.approx(4 / 9), pytest.approx(8 / 9))


def test_undefined_is_none() -> None:
    nobody = ScoreHistogram((), (), (), ())
    negatives, positives = ScoreHistogram((0,), (BINS,), (0,), (9,)), ScoreHistogram((0,), (BINS,), (9,), (0,))
    assert [pooled_auroc(each) for each in (nobody, negatives, positives)] == [None] * 3
    assert [pooled_average_precision(each) for each in (nobody, negatives)] == [None] * 2
    assert pooled_average_precision(positives) == BinnedEstimate(1.0, 1.0, 1.0, 1.0, 1.0)
    assert pooled_lesion_ap(DetectionHistogram(negatives, 0, 9)) is None
    missed = pooled_lesion_ap(DetectionHistogram(negatives, 4, 9))
    assert missed is not None
    assert (missed.value, missed.highest) == (0.0, 0.0)


def test_a_lesion_that_is_not_found_lowers_the_precision() -> None:
    candidates = ScoreHistogram((0, 128), (128, BINS), (0, 3), (7, 0))
    found = pooled_lesion_ap(DetectionHistogram(candidates, 4, 10))
    assert found is not None
    assert found.value == found.lowest == found.highest == pytest.approx(3 / 4)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 3 / 4 < found.high


def test_with_a_bin_per_score_the_cases_themselves_are_had() -> None:
    generator = np.random.default_rng(3)
    sites = make_federation(generator, np.array([60, 90]))
    sites = [(labels, np.round(scores, 1)) for labels, scores in sites]  # few values, so that ties stay ties
    found = pooled_auroc(bin_sites(sites, minimum=1), resamples=0)
    assert found is not None
    assert found.lowest <= auroc(*pool(sites)) <= found.highest  # type: ignore[operator]
    assert found.value == pytest.approx(auroc(*pool(sites)), abs=0.01)


@pytest.mark.parametrize(
    ("positives", "negatives"),
    [
        ((1, 1, 0), (1, 0, 1)),
        ((2, 0, 0), (1, 0, 0)),
        ((0, 2, 0), (1, 0, 1)),
        ((1, 0, 1), (0, 2, 0)),
        ((2, 0, 0), (2, 0, 0)),
    ],
)
def test_the_bounds_are_the_extremes_of_every_placement(positives: tuple[int, ...], negatives: tuple[int, ...]) -> None:
    """Four cases at most in overlapping cells of two bins each, put wherever they may be, ties and all."""
    starts, stops = (0, 1, 2), (2, 3, 4)
    items = [
        (label, k) for label, counts in ((1, positives), (0, negatives)) for k in range(3) for _ in range(counts[k])
    ]
    places = [[place + nudge / 8 for place in range(starts[k], stops[k]) for nudge in range(4)] for _, k in items]
    labels = [label for label, _ in items]
    histogram = ScoreHistogram(starts, stops, positives, negatives)
    for metric, estimate in ((auroc, pooled_auroc), (average_precision, pooled_average_precision)):
        values = [metric(labels, scores) for scores in product(*places)]
        found = estimate(histogram, resamples=0)
        assert found is not None
        assert (found.lowest, found.highest) == (pytest.approx(min(values)), pytest.approx(max(values)))  # type: ignore[type-var]
        assert found.lowest <= found.value <= found.highest


def test_pooled_auroc_is_within_0005_for_sites_of_250_to_800_cases() -> None:
    errors = []
    for sites in make_federations(FEDERATIONS, 250, 800):
        found, exact = pooled_auroc(bin_sites(sites), resamples=0), auroc(*pool(sites))
        assert found is not None
        assert exact is not None
        assert found.lowest <= exact <= found.highest
        assert abs(found.value - exact) <= binning_error(found)
        errors.append(found.value - exact)
    assert np.abs(errors).max() < 0.005
    assert abs(np.mean(errors)) < 0.0005


@pytest.mark.parametrize(
    ("smallest", "largest", "within", "worst"), [(40, 800, 0.90, 0.08), (200, 200, 0.98, 0.012), (40, 40, 0.0, 0.16)]
)
def test_small_sites_cost_accuracy_and_the_bound_says_so(
    smallest: int, largest: int, within: float, worst: float
) -> None:
    errors, bounds = [], []
    for sites in make_federations(200, smallest, largest + 1, seed=1):
        for metric, estimate in ((auroc, pooled_auroc), (average_precision, pooled_average_precision)):
            found, exact = estimate(bin_sites(sites), resamples=0), metric(*pool(sites))
            assert found is not None
            assert exact is not None
            assert found.lowest - 1e-12 <= exact <= found.highest + 1e-12
            if metric is auroc:
                errors.append(abs(found.value - exact))
                bounds.append(binning_error(found))
    assert np.mean(np.array(errors) <= 0.005) >= within
    assert max(errors) < worst
    assert (np.array(errors) <= np.array(bounds)).all()


def test_three_sites_of_the_size_of_picai() -> None:
    generator = np.random.default_rng(0)
    errors = []
    for _ in range(100):
        sites = make_federation(generator, np.array([800, 350, 350]))
        found, exact = pooled_average_precision(bin_sites(sites), resamples=0), average_precision(*pool(sites))
        assert found is not None
        assert exact is not None
        errors.append(found.value - exact)
    assert np.abs(errors).max() < 0.025
    assert np.quantile(np.abs(errors), 0.95) < 0.01


def as_predictions(sites: list[Site]) -> list[CasePrediction]:
    """One candidate per case, a hit where the case is positive, and every tenth positive with a lesion never found."""
    return [
        CasePrediction(
            f"{k}-{i}",
            f"{k}-{i}",
            bool(label),
            float(score),
            ((float(score), bool(label)),),
            int(label) * (1 + (i % 10 == 0)),
        )
        for k, (labels, scores) in enumerate(sites)
        for i, (label, score) in enumerate(zip(labels, scores, strict=True))
    ]


def test_intervals_are_those_of_the_cases() -> None:
    sites = make_federation(np.random.default_rng(4), np.array([300, 500, 250]))
    predictions = as_predictions(sites)
    histogram, detections = bin_predictions(predictions), bin_detections(predictions)
    assert histogram is not None
    assert detections is not None
    for found, statistic in (
        (pooled_auroc(histogram), AUROC),
        (pooled_average_precision(histogram), AVERAGE_PRECISION),
        (pooled_lesion_ap(detections), LESION_AP),
    ):
        expected = bootstrap_interval(predictions, statistic, seed=1)
        assert found is not None
        assert (found.low, found.high) == pytest.approx(expected, abs=0.02)
        assert found.value == pytest.approx(statistic(predictions), abs=0.01)


def test_same_seed_same_interval_and_the_order_of_sites_is_irrelevant() -> None:
    histograms = [bin_scores(*site) for site in make_federation(np.random.default_rng(5), np.array([90, 200, 60]))]
    present = [histogram for histogram in histograms if histogram is not None]
    forward, backward = merge_scores(present), merge_scores(present[::-1])
    assert pooled_auroc(forward, seed=2) == pooled_auroc(backward, seed=2)
    assert pooled_auroc(forward, seed=2) != pooled_auroc(forward, seed=3)
    detections = [DetectionHistogram(each, sum(each.positives) + 5, 100) for each in present]
    assert pooled_lesion_ap(merge_detections(detections)) == pooled_lesion_ap(merge_detections(detections[::-1]))
