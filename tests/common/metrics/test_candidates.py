import time

import numpy as np
import numpy.typing as npt
import pytest
from report_guided_annotation import extract_lesion_candidates
from report_guided_annotation.extract_lesion_candidates import extract_lesion_candidates_dynamic
from scipy import ndimage

from prostafed.common.errors import DataError
from prostafed.common.metrics.candidates import MIN_CONFIDENCE, extract_candidates
from prostafed.common.metrics.components import label_components

Volume = npt.NDArray[np.float32]


def blobs(*boxes: tuple[tuple[int, int], float, int]) -> Volume:
    """A map of boxes, each ((y, x), value, edge) and two slices thick."""
    volume = np.zeros((4, 32, 32), dtype=np.float32)
    for (y, x), value, edge in boxes:
        volume[1:3, y : y + edge, x : x + edge] = value
    return volume


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        (blobs(), []),
        (blobs(((4, 4), 0.8, 4)), [0.8]),
        (blobs(((4, 4), 0.8, 2)), []),  # 8 voxels are too few
        (blobs(((4, 4), 0.5, 4), ((20, 20), 0.9, 4)), [0.9, 0.5]),  # most confident first
        (blobs(((4, 4), 0.9, 4), ((20, 20), 0.2, 4)), [0.9, 0.2]),  # below 0.9 / 2.5, found in the second turn
        (blobs(((4, 4), 0.9, 4), ((4, 8), 0.3, 4)), [0.9]),  # the rim of a candidate is none
        (blobs(((4, 4), 0.9, 4), ((4, 8), 0.4, 4)), [0.9]),  # 0.4 >= 0.9 / 2.5: one candidate
        (blobs(((4, 4), 0.9, 2), ((20, 20), 0.2, 4)), [0.2]),  # a small peak does not end the search
        (blobs(((4, 4), 0.9, 2), ((20, 20), 0.5, 4)), [0.5]),
        (blobs(((4, 4), 0.005, 4)), []),  # nothing to speak of
    ],
)
def test_candidates_by_hand(volume: Volume, expected: list[float]) -> None:
    found = extract_candidates(volume)
    assert found.confidences == pytest.approx(expected)
    for number, confidence in enumerate(found.confidences, start=1):
        assert volume[found.labels == number].max() == np.float32(confidence)


def test_limits_are_parameters() -> None:
    volume = blobs(*(((4 + 9 * row, 4 + 9 * column), 0.9 - 0.1 * row, 3) for row in range(3) for column in range(3)))
    assert len(extract_candidates(volume).confidences) == 5
    assert len(extract_candidates(volume, max_candidates=2).confidences) == 2
    assert len(extract_candidates(volume, min_voxels=17, max_candidates=9).confidences) == 9
    assert extract_candidates(volume, min_voxels=18).confidences == ()
    assert extract_candidates(volume, min_confidence=0.85).confidences == pytest.approx([0.9] * 3)


def smooth(seed: int) -> Volume:
    generator = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(generator.standard_normal((10, 48, 48)), (1, 3, 3))
    return np.clip(texture / np.abs(texture).max() * generator.uniform(0.2, 1), 0, 1).astype(np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_the_reference(seed: int) -> None:
    volume = smooth(seed)
    found = extract_candidates(volume)
    _, confidences, indexed = extract_lesion_candidates_dynamic(
        volume, version=2, max_prob_failsafe_stopping_threshold=MIN_CONFIDENCE
    )
    assert list(found.confidences) == pytest.approx(sorted((value for _, value in confidences), reverse=True))
    for number, confidence in enumerate(found.confidences, start=1):
        reference = next(index for index, value in confidences if value == pytest.approx(confidence))
        np.testing.assert_array_equal(found.labels == number, indexed == reference)


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_the_public_function_of_the_reference_on_few_grey_levels(seed: int) -> None:
    """Coarse levels make equal peaks, and voxels that equal the threshold."""
    levels = np.float32(0.9) / np.float32(2.5) ** np.arange(4, dtype=np.float32)
    volume = smooth(seed) / smooth(seed).max()
    volume = np.concatenate([[np.float32(0)], levels[::-1]])[np.digitize(volume, [0.15, 0.3, 0.5, 0.8])]
    found = extract_candidates(volume)
    _, confidences, indexed = extract_lesion_candidates(volume, threshold="dynamic-v2")
    assert list(found.confidences) == [value for _, value in confidences]
    np.testing.assert_array_equal(found.labels, indexed)


def test_what_equals_the_threshold_of_a_small_peak_may_be_part_of_another() -> None:
    peak = np.float32(0.9)
    edge = peak / np.float32(2.5)
    volume = blobs(((4, 4), peak, 2), ((20, 20), 0.2, 4), ((20, 24), edge, 2))
    _, confidences, _ = extract_lesion_candidates(volume, threshold="dynamic-v2")
    assert extract_candidates(volume).confidences == (edge,) == tuple(value for _, value in confidences)


@pytest.mark.parametrize("volume", [blobs() - 0.1, blobs() + 2, blobs() * np.nan])
def test_a_map_that_is_no_probability_is_refused(volume: Volume) -> None:
    with pytest.raises(DataError, match=r"values in \[0, 1\]"):
        extract_candidates(volume)


def test_a_map_on_the_study_grid_is_fast() -> None:
    volume = np.zeros((20, 256, 256), dtype=np.float32)
    z, y, x = np.mgrid[:20, :256, :256]
    for level, row, column, peak in ((6, 110, 100, 0.8), (10, 140, 150, 0.5), (14, 120, 160, 0.3)):
        distance = ((z - level) * 6) ** 2 + (y - row) ** 2 + (x - column) ** 2
        volume = np.maximum(volume, (peak * np.exp(-distance / 128)).astype(np.float32))
    volume += np.random.default_rng(0).random(volume.shape, dtype=np.float32) * 0.003
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        assert extract_candidates(volume).confidences[:3] == pytest.approx([0.8, 0.5, 0.3], abs=0.01)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.25  # about 0.02 on an idle core; the reference needs seconds


def test_noise_does_not_take_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = []

    def counted(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int32], int]:
        turns.append(mask.size)
        return label_components(mask)

    monkeypatch.setattr("prostafed.common.metrics.candidates.label_components", counted)
    noise = np.random.default_rng(0).random((8, 64, 64), dtype=np.float32)
    assert len(extract_candidates(noise).confidences) == 1
    assert len(turns) <= 3
