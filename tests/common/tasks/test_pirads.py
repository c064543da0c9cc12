"""The PI-RADS task: votes, the score for csPCa, calibration against readers, and the head's ranks."""

import numpy as np
import pytest
import torch

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.models.heads import OrdinalHead
from prostafed.common.tasks import build_task
from prostafed.common.tasks.pirads import PRIORS, count_votes, ranked_probability_score

MASKS = np.zeros((3, 1, 1, 1), np.uint8)
SPACING = (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ((1,), [0, 0, 0]),
        ((2,), [0, 0, 0]),  # 1 and 2 are one grade
        ((3,), [1, 0, 0]),
        ((5,), [1, 1, 1]),
        ((3, 4, 4, 5), [1, 3 / 4, 1 / 4]),
        ((5, 1), [1 / 2, 1 / 2, 1 / 2]),
    ],
)
def test_votes_by_hand(reads: tuple[int, ...], expected: list[float]) -> None:
    assert count_votes(reads) == expected
    assert count_votes(reads[::-1]) == expected


def test_ranked_probability_score_by_hand() -> None:
    assert ranked_probability_score([1, 0.5, 0], [1, 0.5, 0]) == 0
    assert ranked_probability_score([0, 0, 0], [1, 1, 1]) == 1
    one_off, two_off = ([1, 0, 0], [1, 1, 0]), ([0, 0, 0], [1, 1, 0])
    assert ranked_probability_score(*one_off) == pytest.approx(1 / 3)
    assert ranked_probability_score(*two_off) == pytest.approx(2 / 3), "a grade further off is worse"


def test_a_case_is_scored_for_cancer_and_against_its_readers() -> None:
    task, record = build_task("pirads"), CaseRecord("a", "a", cspca=True, pirads_reads=(4, 5))
    said = task.assess(np.array([0.9, 0.7, 0.1], np.float32), record, MASKS, SPACING)
    assert (said.label, said.score) == (True, pytest.approx(0.7))
    assert said.measures == {"pirads_rps": pytest.approx((0.1**2 + 0.3**2 + 0.4**2) / 3)}


def test_reports_suffice_and_histology_may_be_unknown() -> None:
    task, record = build_task("pirads"), CaseRecord("a", "a", pirads_reads=(2,))
    assert task.usable(record)
    assert not task.usable(CaseRecord("b", "b", cspca=True))
    assert task.assess(np.array([0.1, 0.1, 0.1], np.float32), record, MASKS, SPACING).label is None


def test_every_threshold_ranks_cases_alike_and_starts_at_its_prior() -> None:
    torch.manual_seed(0)
    head = OrdinalHead(6, PRIORS)
    logits = head(torch.randn(20, 6))
    assert logits.shape == (20, 3)
    steps = logits[:, 1:] - logits[:, :-1]
    assert torch.allclose(steps, steps[:1].expand_as(steps), atol=1e-5)
    assert (steps < 0).all()
    assert head(torch.zeros(1, 6)).sigmoid().tolist()[0] == pytest.approx(PRIORS)
    assert list(PRIORS) == sorted(PRIORS, reverse=True)
