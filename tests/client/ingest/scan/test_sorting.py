"""Instances as series: enhanced files, and names that tell apart what shares a UID."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from prostafed.client.ingest.records import Acquisition, Series
from prostafed.client.ingest.scan.instances import Instance, read_instances
from prostafed.client.ingest.scan.sorting import group_series
from prostafed.client.ingest.series_map import name_series
from prostafed.client.site.identity import make_pseudonym
from tests.client.ingest.scan.test_frames import item

SECRET = b"s" * 32


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
