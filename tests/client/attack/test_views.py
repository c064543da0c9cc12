"""Likeness of views of one case: by hand, and higher for what an encoder was made to map to one place."""

import pytest
import torch

from prostafed.client.attack.views import VIEWS, _mean_cosine, measure_likeness
from prostafed.client.training.feed import Feed
from prostafed.common.imaging.cases import Grid
from prostafed.common.tasks import build_task
from prostafed.simulations.experiments.label_curve import make_cases, make_network

GRID = Grid((6.0, 3.0, 3.0), (8, 24, 24))


def test_the_mean_cosine_by_hand() -> None:
    assert _mean_cosine(torch.tensor([[1.0, 0.0], [0.0, 2.0]])) == pytest.approx(0)
    assert _mean_cosine(torch.tensor([[1.0, 0.0], [3.0, 0.0]])) == pytest.approx(1)
    assert _mean_cosine(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])) == pytest.approx(1 / 3)


def test_each_case_has_one_score_that_repeats_itself() -> None:
    pool = make_cases(0, 4, GRID)
    network = make_network(build_task("classify").heads, 0, GRID)
    feed = Feed(pool, [2, 0], GRID, torch.device("cpu"))
    found = measure_likeness(network, feed, seed=1)
    assert [patient for patient, _ in found] == [pool.records[2].patient_id, pool.records[0].patient_id]
    assert all(-1 <= score <= 1 for _, score in found)
    assert found == measure_likeness(network, feed, seed=1)
    assert found != measure_likeness(network, feed, seed=2)


def test_views_differ_and_an_encoder_that_says_one_thing_finds_them_alike() -> None:
    feed = Feed(make_cases(0, 1, GRID), [0], GRID, torch.device("cpu"))

    class Constant(torch.nn.Module):
        def describe(self, images: torch.Tensor) -> torch.Tensor:
            assert len(images) == VIEWS
            assert not torch.equal(images[0], images[1])
            return torch.ones(len(images), 3)

    network = torch.nn.ModuleDict({"encoder": Constant()})
    assert measure_likeness(network, feed, seed=0)[0][1] == pytest.approx(1)
