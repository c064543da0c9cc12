"""Whatever happens to a file, ingestion answers with findings: no exception, no half-written case, no case too many."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from pydicom import config
from pydicom.dataset import Dataset

from prostafed.client.findings import CODES
from prostafed.client.ingest.index import IndexRequest, index_site
from prostafed.common.imaging.case_folder import open_case_folder
from tests.client.ingest.tiny_study import GRID, make_study, save_study

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SERIES = ("t2w", "adc", "dwi400", "hbv")
KEYWORDS = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "RescaleSlope", "RescaleIntercept"),
    *("DiffusionBValue", "EchoTime", "RepetitionTime", "ImageType", "InstanceNumber", "SliceThickness"),
    *("PatientID", "PatientAge", "StudyDate", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
    *("SpecificCharacterSet", "Modality", "NumberOfFrames", "PhotometricInterpretation", "SeriesNumber"),
    *("LossyImageCompression", "BurnedInAnnotation", "SpacingBetweenSlices", "FloatPixelData"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "FloatPixelPaddingValue", "FrameOfReferenceUID"),
)
RAW = st.one_of(
    st.sampled_from([b"", b" ", b"\\", b"\\\\\\", b"NaN", b"1e400", b"-0", b"0\\0", b"0\\0\\0", b"\0", b"99999999999"]),
    st.binary(max_size=24),
    st.text(max_size=16).map(lambda text: text.encode("utf-8", "surrogatepass")),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    save_study(make_study(), folder)
    return folder


def index_damaged(whole: Path, scratch: Path, name: str, damage: Callable[[Path], None]) -> dict[str, Any]:
    """Index a copy of the study in which `damage` was done to one file of a series, and check what always holds."""
    export, cases = scratch / "export", scratch / "cases"
    for folder in (export, cases):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, export)
    cases.mkdir()
    damage(export / name / "003.dcm")
    request = IndexRequest(export, cases, b"secret", GRID, ("t2w", "adc", "hbv"), workers=1)
    found: dict[str, Any] = index_site(request)
    for finding in [*found["findings"], *(each for study in found["studies"] for each in study["findings"])]:
        assert finding["severity"] in CODES[finding["code"]]
    usable = {study["study"] for study in found["studies"] if study["status"] != "refused"}
    assert usable == {path.stem for path in cases.glob("*.safetensors")}
    assert not list(cases.glob(".*"))
    if usable:
        open_case_folder(cases)
    return found


@FUZZ
@given(name=st.sampled_from(SERIES), share=st.floats(0, 1))
def test_a_file_may_end_anywhere(whole: Path, tmp_path: Path, name: str, share: float) -> None:
    def cut(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(share * (len(data) - 1))])

    found = index_damaged(whole, tmp_path, name, cut)
    said = {each["code"] for study in found["studies"] for each in study["findings"]}
    said |= {each["code"] for each in found["findings"]}
    assert said & {"TRUNCATED", "EMPTY_FILE", "UNREADABLE", "NOT_DICOM", "MISSING_SLICE"}, "it must not pass unseen"


@FUZZ
@given(name=st.sampled_from(SERIES), start=st.floats(0, 1), noise=st.binary(min_size=1, max_size=200))
def test_bytes_may_turn_to_noise(whole: Path, tmp_path: Path, name: str, start: float, noise: bytes) -> None:
    def scribble(path: Path) -> None:
        data = bytearray(path.read_bytes())
        at = int(start * (len(data) - len(noise)))
        data[at : at + len(noise)] = noise
        path.write_bytes(bytes(data))

    index_damaged(whole, tmp_path, name, scribble)


@FUZZ
@given(name=st.sampled_from(SERIES), keyword=st.sampled_from(KEYWORDS), value=RAW, everywhere=st.booleans())
def test_an_element_may_hold_anything(
    whole: Path, tmp_path: Path, name: str, keyword: str, value: bytes, everywhere: bool
) -> None:
    def overwrite(path: Path) -> None:
        from pydicom import dcmread
        from pydicom.datadict import dictionary_VR, tag_for_keyword
        from pydicom.dataelem import RawDataElement
        from pydicom.tag import Tag

        tag = Tag(tag_for_keyword(keyword) or 0)
        for each in path.parent.iterdir() if everywhere else (path,):
            dataset: Dataset = dcmread(each)
            padded = value + b" " * (len(value) % 2)
            vr = dictionary_VR(tag)
            dataset._dict[tag] = RawDataElement(tag, vr, len(padded), padded, 0, False, True)
            try:
                dataset.save_as(each)
            except ValueError:  # a character set that pydicom cannot even write
                reject()

    previous = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    try:
        index_damaged(whole, tmp_path, name, overwrite)
    finally:
        config.settings.writing_validation_mode = previous
