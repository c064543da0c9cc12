"""Results of an enhanced T2W of which only some frames are a plane, and of one that several files hold."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from prostafed.common.bundle.record import Bundle
from tests.client.ingest.tiny_study import make_study, save_study
from tests.client.predict.conftest import Predict
from tests.client.predict.test_run import say_block


def item(**elements: object) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def join(slices: Sequence[Dataset], number: int, phase: bool) -> Dataset:
    """Return an enhanced file of classic slices, each of them behind a phase image of its place where `phase`."""
    joined, groups, pixels = deepcopy(slices[0]), [], []
    for each in slices:
        for component in ("PHASE", "MAGNITUDE") if phase else ("MAGNITUDE",):
            groups.append(
                item(
                    PlanePositionSequence=[item(ImagePositionPatient=each.ImagePositionPatient)],
                    PlaneOrientationSequence=[item(ImageOrientationPatient=each.ImageOrientationPatient)],
                    PixelMeasuresSequence=[item(PixelSpacing=each.PixelSpacing, SliceThickness=each.SliceThickness)],
                    MRImageFrameTypeSequence=[
                        item(FrameType=["ORIGINAL", "PRIMARY", "M", "NONE"], ComplexImageComponent=component)
                    ],
                )
            )
            pixels.append(each.PixelData if component == "MAGNITUDE" else each.PixelData[::-1])
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(joined, keyword)
    joined.SOPClassUID = joined.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    joined.SOPInstanceUID = joined.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    joined.SharedFunctionalGroupsSequence, joined.PerFrameFunctionalGroupsSequence = [Dataset()], groups
    joined.InstanceNumber, joined.NumberOfFrames, joined.PixelData = number, len(groups), b"".join(pixels)
    return joined


@pytest.mark.parametrize("phase", [False, True])
@pytest.mark.parametrize("per_file", [8, 5, 1])
def test_results_refer_to_the_frames_that_were_planes(
    predict: Predict, bundle: Bundle, tmp_path: Path, per_file: int, phase: bool
) -> None:
    study = make_study()
    slices = study["t2w"]
    study["t2w"] = [join(slices[at : at + per_file], at + 1, phase) for at in range(0, len(slices), per_file)]
    save_study(study, tmp_path / "dicom")
    (entry,) = predict(tmp_path / "dicom", bundle, say_block)["studies"]
    assert {"segmentation.dcm", "heat_map.dcm", "report.dcm"} <= set(entry["files"]), entry["findings"]
    files = {each.SOPInstanceUID: each for each in study["t2w"]}
    folder = tmp_path / "out" / entry["study"]
    for name, count in (("segmentation.dcm", 2), ("heat_map.dcm", 8)):
        result = pydicom.dcmread(folder / name)
        assert len(result.PerFrameFunctionalGroupsSequence) == count
        for frame in result.PerFrameFunctionalGroupsSequence:
            (source,) = frame.DerivationImageSequence[0].SourceImageSequence
            groups = files[source.ReferencedSOPInstanceUID].PerFrameFunctionalGroupsSequence
            meant = groups[source.ReferencedFrameNumber - 1]
            assert meant.MRImageFrameTypeSequence[0].ComplexImageComponent == "MAGNITUDE"
            one, other = (each.PlanePositionSequence[0].ImagePositionPatient for each in (frame, meant))
            assert np.allclose(one, other, atol=1e-6)
        for references in (
            result.SourceImageSequence,
            result.ReferencedSeriesSequence[0].ReferencedInstanceSequence,
        ):
            assert {each.ReferencedSOPInstanceUID for each in references} == set(files)
