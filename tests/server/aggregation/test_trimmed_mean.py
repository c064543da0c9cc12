"""The trimmed mean: by hand and against Flower's and scipy's."""

import numpy as np
import pytest
from flwr.server.strategy.aggregate import aggregate_trimmed_avg
from scipy.stats import trim_mean

from prostafed.common.shell.progress import Event, Said, listening
from prostafed.server.aggregation.trimmed_mean import count_trimmed
from tests.server.aggregation.one_round import build, run_round, sent, update


def test_by_hand() -> None:
    columns = [[-100.0, 1.0, 0.0], [1.0, 2.0, 0.0], [2.0, 3.0, 6.0], [6.0, 90.0, 0.0], [900.0, 4.0, 0.0]]
    updates = [update(row, cases=10**site, site=str(site)) for site, row in enumerate(columns)]
    outcome = run_round(build("trimmed_mean", trimmed_fraction=0.2), sent([0.0] * 3), updates)
    assert outcome.tensors["w"].tolist() == [3.0, 3.0, 0.0]
    assert outcome.diagnostics["trimmed_at_each_end"] == 1


@pytest.mark.parametrize(
    ("fraction", "counts"), [(0.0, (1, 3, 10)), (0.1, (1, 2, 10)), (0.25, (4, 10)), (0.49, (3, 9))]
)
def test_as_flower_and_scipy_have_it(fraction: float, counts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for sites in counts:
        updates = [update(list(rng.normal(size=3)), site=str(site)) for site in range(sites)]
        (expected,) = aggregate_trimmed_avg([([each.tensors["w"]], 1) for each in updates], fraction)
        tensors = run_round(build("trimmed_mean", trimmed_fraction=fraction), sent([0.0] * 3), updates).tensors
        np.testing.assert_allclose(tensors["w"], expected, rtol=1e-5)
        stacked = np.stack([each.tensors["w"] for each in updates]).astype(np.float64)
        np.testing.assert_allclose(tensors["w"], trim_mean(stacked, fraction), rtol=1e-5)


def test_a_product_just_below_a_whole_number_counts_as_it() -> None:
    assert 0.29 * 100 < 29
    assert count_trimmed(0.29, 100) == 29
    assert [count_trimmed(0.2, sites) for sites in (1, 2, 3, 4, 5, 9, 10)] == [0, 0, 1, 1, 1, 1, 2]
    assert [count_trimmed(0.0, sites) for sites in (3, 10)] == [0, 0]


@pytest.mark.parametrize("sites", [3, 4])
def test_by_default_a_wrong_site_is_left_out_of_three_or_four(sites: int) -> None:
    updates = [update([1e6 if site == 0 else float(site), 0.0, 0.0], site=str(site)) for site in range(sites)]
    outcome = run_round(build("trimmed_mean"), sent([0.0] * 3), updates)
    assert 1 <= outcome.tensors["w"][0] <= sites
    assert outcome.diagnostics["trimmed_at_each_end"] == 1


@pytest.mark.parametrize("name", ["trimmed_mean", "fedmedian", "geometric_median"])
def test_of_too_few_replies_it_is_said_how_many_are_needed(name: str) -> None:
    said: list[Event] = []
    with listening(said.append):
        for sites in (2, 3):
            updates = [update([float(site), 0.0, 0.0], site=str(site)) for site in range(sites)]
            run_round(build(name), sent([0.0] * 3), updates)
    assert said == [Said("round", f"{name} needs 3 replies to bear a wrong one and had 2: this is a mean.")]
