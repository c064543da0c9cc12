"""Instances as series: enhanced files, names that tell apart what shares a UID, images of b=0 without a b-value."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from prostafed.client.ingest.records import Acquisition, Series, Slice
from prostafed.client.ingest.scan.headers import read_studies
from prostafed.client.ingest.scan.instances import Instance, read_instances
from prostafed.client.ingest.scan.sorting import group_series, mark_unweighted
from prostafed.client.ingest.series_map import name_series
from prostafed.client.site.identity import make_pseudonym
from tests.client.ingest.scan.test_frames import item

SECRET = b"s" * 32
ACQUIRED = ("ORIGINAL", "PRIMARY", "GDC")


def read(path: Path) -> Instance:
    (instance,) = read_instances([path])
    assert isinstance(instance, Instance)
    return instance


def test_magnitude_and_phase_of_one_enhanced_file_are_two_series(make_slice, tmp_path: Path) -> None:
    def frame(component: str, height: float) -> Dataset:
        kind = item(ComplexImageComponent=component, FrameType=["ORIGINAL", "PRIMARY", "T2", "NONE"])
        place = item(ImagePositionPatient=[0.0, 0.0, height])
        return item(MRImageFrameTypeSequence=[kind], PlanePositionSequence=[place])

    frames = [frame(component, 3.0 * z) for z in range(3) for component in ("PHASE", "MAGNITUDE")]
    volume = np.zeros((6, 4, 6))
    dataset = make_slice(volume, NumberOfFrames=6, PerFrameFunctionalGroupsSequence=frames, ImagePositionPatient=None)
    dataset.save_as(tmp_path / "a")
    series = group_series([read(tmp_path / "a")])
    assert [(each.kind, each.part, [one.frame for one in each.slices]) for each in series] == [
        ("derived", "phase", [0, 2, 4]),
        ("t2w", "", [1, 3, 5]),
    ]
    assert len({name_series(SECRET, each) for each in series}) == 2


def test_each_stack_of_a_uid_has_a_name_and_a_plain_series_the_one_it_always_had(make_slice, tmp_path: Path) -> None:
    instances = []
    for number, acquisition in enumerate((1, 1, 1, 2, 2, 2)):
        place = [0.0, 0.0, 3.0 * (number % 3)]
        tags = {"InstanceNumber": number, "AcquisitionNumber": acquisition, "ImagePositionPatient": place}
        make_slice(**tags).save_as(tmp_path / str(number))
        instances.append(read(tmp_path / str(number)))
    sagittal = replace(instances[0].groups[0].slices[0], orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
    group = replace(instances[0].groups[0], slices=(sagittal,))
    series = group_series([*instances, replace(instances[0], groups=(group,))])
    assert [(each.part, each.plane, len(each.slices)) for each in series] == [
        ("", "axial", 3),
        ("acquisition 2", "axial", 3),
        ("other plane", "sagittal", 1),
    ]
    assert {each.acquisition for each in series[1].slices} == {Acquisition(number=2)}
    assert len({name_series(SECRET, each) for each in series}) == 3
    first: Series = series[0]
    text = "\0".join((first.uid, "ORIGINAL\\PRIMARY\\M\\NORM", "100.0"))
    assert name_series(SECRET, first) == make_pseudonym(SECRET, "series", text)


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
