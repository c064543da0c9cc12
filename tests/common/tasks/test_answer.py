"""What a prediction says, by hand, and that it says what answers of its kind say."""

from dataclasses import replace

import numpy as np
import pytest

from prostafed.common.tasks import build_task
from prostafed.common.tasks.answer import Answer, CandidateRule, Kind, Quantity, Segment, check_answer

LOW = CandidateRule(min_confidence=0.1, most=5, min_voxels=3)
CUBE = np.zeros((2, 3, 3), np.float32)
LABELS = CUBE.astype(np.uint8)
VOLUME = Quantity("prostate_volume", "Prostate volume", 41.23, "mL")


def read(task: str, prediction: np.ndarray, rule: CandidateRule = LOW) -> Answer:
    return build_task(task).answer(prediction, rule)


def make_heat() -> np.ndarray:
    heat = np.zeros((3, 8, 8), dtype=np.float32)
    heat[0, 0:2, 0:3] = 0.9
    heat[2, 5:8, 5:8] = 0.3
    heat[2, 0:2, 0:2] = 0.05
    return heat


def test_candidates_are_numbered_by_confidence_and_the_faint_one_is_not_shown() -> None:
    heat = make_heat()
    answer = read("lesion", heat)
    assert answer.score == pytest.approx(0.9)
    assert answer.segments == (
        Segment("candidate", "Lesion candidate 1", pytest.approx(0.9)),
        Segment("candidate", "Lesion candidate 2", pytest.approx(0.3)),
    )
    assert answer.labels is not None
    np.testing.assert_array_equal(answer.labels == 1, heat == np.float32(0.9))
    np.testing.assert_array_equal(answer.labels == 2, heat == np.float32(0.3))


def test_the_score_counts_what_is_not_shown() -> None:
    answer = read("lesion", make_heat(), replace(LOW, min_confidence=0.95))
    assert (answer.score, answer.segments) == (pytest.approx(0.9), ())
    assert answer.labels is not None
    assert not answer.labels.any()
    assert read("lesion", CUBE).score == 0


def test_at_most_so_many_candidates() -> None:
    assert len(read("lesion", make_heat(), CandidateRule(0, 1, 3)).segments) == 1


def test_zones_are_segments() -> None:
    zones = np.zeros((2, 2, 4, 4), dtype=np.float32)
    zones[0, :, :2], zones[1, :, 2:] = 0.8, 0.7
    answer = read("anatomy", zones)
    assert answer.labels is not None
    assert answer.labels[0, :, 0].tolist() == [1, 1, 2, 2]
    assert answer.segments == (Segment("pz", "Peripheral zone"), Segment("tz", "Transition zone"))
    assert answer.score is None
    assert answer.heat is None


def test_scores_alone() -> None:
    assert read("classify", np.array(0.25, np.float32)) == Answer(0.25)
    answer = read("pirads", np.array([0.75, 0.5, 0.25], dtype=np.float32))
    assert answer.score == 0.5
    assert {each.name: each.value for each in answer.quantities} == {
        "pirads_3": 0.75,
        "pirads_4": 0.5,
        "pirads_5": 0.25,
    }
    assert answer.quantities[0].label == "Score of PI-RADS 3 or higher"


def test_a_quantity_is_said_with_its_unit() -> None:
    assert str(VOLUME) == "Prostate volume 41.2 mL"
    assert str(replace(VOLUME, unit="")) == "Prostate volume 41.23"


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (Answer(0.3, (VOLUME,)), "quantities", "of the kind 'quantities', found one of score, 1 quantities"),
        (Answer(heat=CUBE, labels=LABELS), "structures", "found one of heat, labels"),
        (Answer(0.3, heat=CUBE, labels=LABELS), "score", "found one of score, heat, labels"),
        (Answer(quantities=(VOLUME,)), "score", "of the kind 'score', found one of 1 quantities"),
        (Answer(), "quantities", "found one of nothing"),
        (Answer(41.2), "score", "scores of csPCa from 0 to 1"),
        (Answer(float("nan")), "score", "scores of csPCa from 0 to 1"),
        (Answer(0.5, heat=CUBE + 2, labels=LABELS), "heat map", "scores of csPCa from 0 to 1"),
        (Answer(labels=LABELS, segments=(Segment("candidate", "A"),)), "structures", "candidates in heat maps"),
        (Answer(0.5, heat=CUBE, labels=LABELS, segments=(Segment("pz", "A"),)), "heat map", "candidates in heat maps"),
        (Answer(quantities=(replace(VOLUME, value=np.inf),)), "quantities", "a finite quantity"),
        (Answer(quantities=(replace(VOLUME, name=""),)), "quantities", "with a name and a label"),
        (Answer(quantities=(replace(VOLUME, name="prostate_volume_ml"),)), "quantities", "with a name and a label"),
    ],
)  # fmt: skip
def test_what_is_not_of_its_kind_is_refused(answer: Answer, kind: Kind, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_answer(answer, kind)


def test_what_is_of_its_kind_is_let_through() -> None:
    answer = Answer(quantities=(VOLUME,))
    assert check_answer(answer, "quantities") is answer
