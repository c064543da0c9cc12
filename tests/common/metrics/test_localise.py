import numpy as np

from prostafed.common.metrics.candidates import Candidates, extract_candidates
from prostafed.common.metrics.localise import Location, locate_candidates


def test_each_candidate_has_a_point_inside_and_a_box_around() -> None:
    detection_map = np.zeros((6, 12, 12), dtype=np.float32)
    detection_map[1:4, 2:5, 2:5] = 0.9
    detection_map[4:6, 8:11, 7:12] = 0.5
    found = locate_candidates(extract_candidates(detection_map), detection_map, (3.0, 0.5, 0.5))
    assert found[0] == Location(np.float32(0.9), point=(2, 3, 3), first=(1, 2, 2), last=(3, 4, 4))
    assert (found[1].confidence, found[1].first, found[1].last) == (0.5, (4, 8, 7), (5, 10, 11))
    assert found[1].point == (4, 9, 9), "of two voxels equally near the first"


def test_the_point_of_a_ring_lies_on_it_and_leans_to_what_is_sure() -> None:
    labels = np.zeros((1, 5, 5), dtype=np.int32)
    labels[0] = 1
    labels[0, 1:4, 1:4] = 0
    detection_map = np.where(labels > 0, 0.1, 0.0).astype(np.float32)
    detection_map[0, 4, 2] = 0.9
    (found,) = locate_candidates(Candidates(labels, (0.9,)), detection_map, (1.0, 1.0, 1.0))
    assert found.point == (0, 4, 2)
    assert (found.first, found.last) == ((0, 0, 0), (0, 4, 4))


def test_nearest_is_meant_in_mm() -> None:
    labels = np.zeros((3, 1, 9), dtype=np.int32)
    labels[0, 0, [0, 8]] = labels[2, 0, 3] = 1  # the centre of mass is at (2/3, 0, 11/3)
    detection_map = (labels * 0.5).astype(np.float32)
    points = [
        locate_candidates(Candidates(labels, (0.5,)), detection_map, spacing)[0].point
        for spacing in ((1.0, 1.0, 1.0), (9.0, 1.0, 1.0))
    ]
    assert points == [(2, 0, 3), (0, 0, 0)]


def test_no_candidate_no_place() -> None:
    empty = np.zeros((3, 3, 3), dtype=np.float32)
    assert locate_candidates(extract_candidates(empty), empty, (1.0, 1.0, 1.0)) == []
