"""Images of b=0 without a b-value."""

from dataclasses import replace
from pathlib import Path

import pytest

from prostafed.client.ingest.records import Slice
from prostafed.client.ingest.scan.headers import read_studies
from prostafed.client.ingest.scan.unweighted import mark_unweighted

ACQUIRED = ("ORIGINAL", "PRIMARY", "GDC")


def stack(b: float | None, *along: float, garbled: bool = False) -> list[Slice]:
    one = Slice(Path("x"), 0, "1", 1, 2, 2, None, None, None, b, False, 1.0, 0.0, b_value_garbled=garbled)
    return [replace(one, position_mm=(0.0, 0.0, float(z))) for z in along]


def marked(*slices: Slice) -> set[float | None]:
    return {each.b_value_s_per_mm2 for each in mark_unweighted(slices, ACQUIRED)}


def test_images_without_a_b_value_beside_others_are_of_b_0() -> None:
    bare, weighted = stack(None, 0, 3, 6), stack(800, 0, 3, 6)
    assert mark_unweighted([*bare, *weighted], ACQUIRED) == (*stack(0, 0, 3, 6), *weighted)
    assert marked(*bare, *stack(400, 0, 3, 6), *weighted) == {0, 400, 800}


@pytest.mark.parametrize("weighted", [stack(800, 0, 3, 6, 9), stack(800, 0, 3)])
def test_either_may_have_been_interrupted(weighted: list[Slice]) -> None:
    assert marked(*stack(None, 0, 3, 6), *weighted) == {0, 800}


@pytest.mark.parametrize(
    "slices",
    [
        stack(None, 0, 3, 6),  # nobody tells
        [*stack(None, 0, 3, 6), *stack(0, 0, 3, 6), *stack(800, 0, 3, 6)],  # b=0 is there
        [*stack(None, 0, 3, 6), *stack(0, 0, 3, 6)],
        [*stack(None, 100, 103, 106), *stack(800, 0, 3, 6)],  # elsewhere
        [*stack(None, 0), *stack(800, 0, 3, 6)],  # one image lost its own
        [*stack(None, 0, 3, 6, garbled=True), *stack(800, 0, 3, 6)],
        [replace(each, position_mm=None) for each in (*stack(None, 0, 3), *stack(800, 0, 3))],
    ],
)
def test_others_stay_unknown(slices: list[Slice]) -> None:
    assert mark_unweighted(slices, ACQUIRED) == tuple(slices)


def test_derived_images_may_be_a_map() -> None:
    slices = (*stack(None, 0, 3, 6), *stack(800, 0, 3, 6))
    assert mark_unweighted(slices, ("DERIVED", "PRIMARY", "GDC")) == slices


@pytest.mark.parametrize("enhanced", [False, True])
def test_a_series_of_canon(tmp_path: Path, write_series, enhanced: bool) -> None:
    named = {"SeriesDescription": "prostate", "ImageType": ["ORIGINAL", "PRIMARY", "GDC"], "Manufacturer": "CANON_MEC"}
    write_series(tmp_path, b_values=(None, 800), enhanced=enhanced, **named)
    (series,) = read_studies(tmp_path, workers=1)[0][0].series
    assert (series.kind, series.b_values_s_per_mm2) == ("dwi", (0, 800))
