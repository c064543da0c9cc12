"""The median: by hand and against Flower's."""

import numpy as np
from flwr.server.strategy.aggregate import aggregate_median

from tests.server.aggregation.one_round import build, run_round, sent, update


def test_odd_and_even_by_hand() -> None:
    rows = [[1.0, -5.0, 0.0], [2.0, 7.0, 0.0], [9.0, 0.0, 1.0], [4.0, 1.0, 1.0]]
    updates = [update(row, site=str(site)) for site, row in enumerate(rows)]
    assert run_round(build("fedmedian"), sent([0.0] * 3), updates[:3]).tensors["w"].tolist() == [2.0, 0.0, 0.0]
    assert run_round(build("fedmedian"), sent([0.0] * 3), updates).tensors["w"].tolist() == [3.0, 0.5, 0.5]


def test_as_flower_has_it() -> None:
    rng = np.random.default_rng(0)
    for sites in (1, 2, 7, 8):
        updates = [update(list(rng.normal(size=3)), site=str(site)) for site in range(sites)]
        (expected,) = aggregate_median([([each.tensors["w"]], 1) for each in updates])
        tensors = run_round(build("fedmedian"), sent([0.0] * 3), updates).tensors
        np.testing.assert_allclose(tensors["w"], expected, rtol=1e-6)
