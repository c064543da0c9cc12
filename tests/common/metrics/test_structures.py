import numpy as np
import pytest

from prostafed.common.metrics.structures import STRUCTURE_MEASURES, measure_structures


def test_measures_are_named_after_their_structure() -> None:
    true = np.zeros((3, 4, 6), dtype=bool)
    true[1, 1:3, 1:3] = True
    predicted = np.roll(true, 1, axis=2)
    found = measure_structures({"gland": (predicted, true), "pz": (true, true)}, (3.0, 1.0, 1.5))
    assert set(found) == {name for name in STRUCTURE_MEASURES if not name.startswith("tz")}
    assert (found["gland_dice"], found["gland_hd95_mm"], found["gland_volume_difference"]) == (0.5, 1.5, 0.0)
    assert found["gland_surface_dice"] == 1.0, "1.5 mm is within the tolerance"
    assert (found["pz_dice"], found["pz_hd95_mm"]) == (1.0, 0.0)


def test_what_is_undefined_is_absent() -> None:
    empty = np.zeros((2, 2, 2), dtype=bool)
    assert measure_structures({"tz": (empty, empty)}, (1.0, 1.0, 1.0)) == {}
    missed = measure_structures({"tz": (empty, ~empty)}, (1.0, 1.0, 1.0))
    assert (missed["tz_dice"], missed["tz_surface_dice"], missed["tz_volume_difference"]) == (0.0, 0.0, 1.0)
    assert missed["tz_hd95_mm"] == pytest.approx(12**0.5)
    assert "tz_volume_difference" not in measure_structures({"tz": (~empty, empty)}, (1.0, 1.0, 1.0))
