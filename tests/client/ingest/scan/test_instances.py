"""One file: what its header says, or the code of what is wrong with it."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RTStructureSetStorage,
)

from prostafed.client.ingest.scan.instances import Instance, Rejected, read_instances
from prostafed.client.ingest.scan.sorting import group_series

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def save(dataset: Dataset) -> bytes:
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Instance | Rejected]:
    def read(content: bytes) -> Instance | Rejected:
        path = tmp_path / "file"
        path.write_bytes(content)
        (instance,) = read_instances([path])
        return instance

    return read


def get_code(instance: Instance | Rejected) -> str:
    return instance.code if isinstance(instance, Rejected) else "TRUNCATED" if instance.truncated else ""


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_whole_file(make_slice, read, syntax: str) -> None:
    dataset = make_slice(
        syntax=syntax,
        SeriesNumber=7,
        IssuerOfPatientID="north",
        BodyPartExamined="PROSTATE",
        BurnedInAnnotation="YES",
        ContrastBolusAgent="Dotarem",
        SpacingBetweenSlices=3.3,
        NumberOfTemporalPositions=2,
        SequenceName="*tse2d1_25",
        ScanningSequence=["SE", "IR"],
    )
    instance = read(save(dataset))
    assert isinstance(instance, Instance)
    assert not instance.truncated
    assert (instance.study, instance.series, instance.uid) == (
        dataset.StudyInstanceUID,
        dataset.SeriesInstanceUID,
        dataset.SOPInstanceUID,
    )
    assert (instance.series_number, instance.patient, instance.issuer) == (7, "P-1", "north")
    assert (instance.patient_age, instance.study_date, instance.generated) == (65, "20200102", False)
    (group,) = instance.groups
    header = group.header
    assert (header.modality, header.manufacturer, header.transfer_syntax) == ("MR", "SIEMENS", syntax)
    assert header.words == "t2 tse tra *tse2d1 25 se ir"
    assert header.image_type == ("ORIGINAL", "PRIMARY", "M", "NORM")
    assert (header.echo_time_ms, header.repetition_time_ms) == (100, 5000)
    assert header.slice_thickness_mm == 3
    assert (header.contrast, header.time_points, header.samples_per_pixel) == (True, 2, 1)
    assert (header.lossy, header.burned_in, header.body_part, header.patient_sex) == (False, True, "PROSTATE", "M")
    assert group.slices[0].position_mm == (0, 0, 0)


def test_an_enhanced_file_gives_a_group_per_kind_of_frame(make_slice, read) -> None:
    def frame(kind: str, repetition: float) -> Dataset:
        group, kinds, timing = Dataset(), Dataset(), Dataset()
        kinds.FrameType = ["DERIVED", "PRIMARY", "DIFFUSION", kind]
        timing.RepetitionTime = repetition
        group.MRImageFrameTypeSequence = [kinds]
        group.MRTimingAndRelatedParametersSequence = [timing]
        return group

    frames = [frame("TRACEW", 4000), frame("ADC", 4000), frame("TRACEW", 4000)]
    dataset = make_slice(
        np.zeros((3, 4, 6)),
        NumberOfFrames=3,
        PerFrameFunctionalGroupsSequence=frames,
        RepetitionTime=None,
        SeriesDescription=None,
        PulseSequenceName="*ep_b50",
        EchoPlanarPulseSequence="YES",
    )
    instance = read(save(dataset))
    assert [[each.frame for each in group.slices] for group in instance.groups] == [[0, 2], [1]]
    assert {group.header.repetition_time_ms for group in instance.groups} == {4000}
    assert {group.header.words for group in instance.groups} == {"*ep b50 ep"}


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"SeriesDescription": "Ax T2-FSE/PROPELLER_3mm", "ProtocolName": "DWI"}, "ax t2 fse propeller 3mm"),
        ({"SeriesDescription": None, "ProtocolName": "t2_tse"}, "t2 tse"),
        ({"SeriesDescription": None}, ""),
        ({"SeriesDescription": "ep2d.DIFF", "SequenceName": "*ep_b50t"}, "ep2d diff *ep b50t"),
    ],
)
def test_words(make_slice, read, tags: dict[str, str], words: str) -> None:
    assert read(save(make_slice(**tags))).groups[0].header.words == words


@pytest.mark.parametrize(
    ("tags", "age"),
    [
        ({"PatientAge": "071Y"}, 71),
        ({"PatientAge": "007M"}, None),
        ({"PatientAge": None, "PatientBirthDate": "19500103"}, 69),
        ({"PatientAge": None, "PatientBirthDate": "19500102"}, 70),
        ({"PatientAge": None, "PatientBirthDate": "20210102"}, None),
        ({"PatientAge": None, "PatientBirthDate": "1950"}, None),
        ({"PatientAge": None}, None),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")
def test_age(make_slice, read, tags: dict[str, str], age: int | None) -> None:
    assert read(save(make_slice(**tags))).patient_age == age


def test_the_quantity_of_real_world_values(make_slice, read) -> None:
    code, quantity, mapping = Dataset(), Dataset(), Dataset()
    code.CodeValue = "113041"
    quantity.ConceptCodeSequence = [code]
    mapping.QuantityDefinitionSequence = [quantity]
    assert read(save(make_slice(RealWorldValueMappingSequence=[mapping]))).groups[0].header.quantity == "113041"
    assert read(save(make_slice())).groups[0].header.quantity == ""


@pytest.mark.parametrize(("agent", "contrast"), [("Gadovist", True), ("NO", False), ("none", False), (None, False)])
def test_contrast(make_slice, read, agent: str | None, contrast: bool) -> None:
    assert read(save(make_slice(ContrastBolusAgent=agent))).groups[0].header.contrast is contrast


@pytest.mark.parametrize(("answer", "generated"), [("YES", True), ("NO", False), (None, False)])
def test_generated(make_slice, read, answer: str | None, generated: bool) -> None:
    assert read(save(make_slice(QualityControlImage=answer))).generated is generated


def test_modality_left_out_is_that_of_the_class(make_slice, read) -> None:
    assert read(save(make_slice(Modality=None))).groups[0].header.modality == "MR"
    assert read(save(make_slice(Modality=None, SOPClassUID=CTImageStorage))).groups[0].header.modality == ""


@pytest.mark.parametrize("start", [132, 132 + 12])  # without preamble; without the length of the meta group, too
def test_a_file_without_preamble(make_slice, read, start: int) -> None:
    instance = read(save(make_slice())[start:])
    assert isinstance(instance, Instance)
    assert not instance.truncated
    assert instance.groups[0].slices[0].rows == 4


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_bare_dataset_as_old_archives_export(make_slice, read, syntax: str) -> None:
    content = save(make_slice(syntax=syntax))
    bare = content[132 + 12 + int.from_bytes(content[140:144], "little") :]
    assert bare[:2] == b"\x08\x00"
    instance = read(bare)
    assert isinstance(instance, Instance)
    assert not instance.truncated
    assert instance.groups[0].slices[0].columns == 6


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"PK\x03\x04" + b"\0" * 200, "ZIP_FOUND"),
        (b"\x1f\x8b\x08" + b"\0" * 200, "ZIP_FOUND"),
        (b"hello", "NOT_DICOM"),
        (b"\x89PNG\r\n" + b"\0" * 300, "NOT_DICOM"),
        (b"\0" * 500, "NOT_DICOM"),
        (b"\x08\x00 tables start like this, too" * 20, "NOT_DICOM"),
        (b"\0" * 128 + b"DICM", "UNREADABLE"),
        (b"\0" * 128 + b"DICM" + b"\xff" * 300, "UNREADABLE"),
    ],
)
def test_no_image_at_all(read, content: bytes, code: str) -> None:
    assert get_code(read(content)) == code


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    assert read_instances([tmp_path / "gone"]) == [Rejected(tmp_path / "gone", "UNREADABLE")]
    assert read_instances([tmp_path]) == [Rejected(tmp_path, "UNREADABLE")]


def test_a_dicom_file_without_pixels_by_its_kind_is_passed_without_a_word(make_slice, read) -> None:
    dataset = make_slice(SOPClassUID=RTStructureSetStorage, Modality="RTSTRUCT")
    for name in ("Rows", "Columns", "PixelData"):
        delattr(dataset, name)
    assert read(save(dataset)) == Rejected(read(save(dataset)).path, "")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("study", ["1.2.3", None])
def test_an_object_that_is_no_image_is_passed_without_a_word(make_slice, read, syntax: str, study: str | None) -> None:
    dataset = make_slice(SOPClassUID="1.3.46.670589.11.0.0.12.2", StudyInstanceUID=study, syntax=syntax)
    del dataset.PixelData
    assert read(save(dataset)) == Rejected(read(save(dataset)).path, "")


def test_pixels_without_rows_cannot_be_used(make_slice, read) -> None:
    assert get_code(read(save(make_slice(Rows=None, SOPClassUID=CTImageStorage)))) == "UNREADABLE"


def test_an_image_without_a_study_cannot_be_used(make_slice, read) -> None:
    assert get_code(read(save(make_slice(StudyInstanceUID=None)))) == "UNREADABLE"


@pytest.mark.parametrize("syntax", SYNTAXES)
@settings(FUZZ, max_examples=60)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_found_out(make_slice, read, syntax: str, share: float) -> None:
    content = save(make_slice(np.ones((8, 8)), syntax=syntax, SOPInstanceUID="1.2.3"))
    whole = read(content)
    assert isinstance(whole, Instance)
    assert not whole.truncated
    cut = read(content[: int(share * (len(content) - 1))])  # the last byte of a deflated file may be padding
    assert get_code(cut) in ("TRUNCATED", "UNREADABLE", "NOT_DICOM")


def test_every_cut_of_one_file_is_found_out(make_slice, read) -> None:
    content = save(make_slice())
    codes = {get_code(read(content[:length])) for length in range(132, len(content))}
    assert codes == {"TRUNCATED", "UNREADABLE"}
    start_of_pixels = content.index(b"\xe0\x7f\x10\x00")
    assert {get_code(read(content[:length])) for length in range(start_of_pixels + 12, len(content))} == {"TRUNCATED"}


def test_fewer_pixels_than_rows_and_columns_say(make_slice, read) -> None:
    dataset = make_slice()
    dataset.Rows = 5
    assert get_code(read(save(dataset))) == "TRUNCATED"
    dataset.Rows = 3  # more than needed: some writers pad
    assert get_code(read(save(dataset))) == ""
    dataset.Rows, dataset.NumberOfFrames = 4, 2
    assert get_code(read(save(dataset))) == "TRUNCATED"


def make_compressed(make_slice, fragments: int, frames: int = 1, syntax: str = JPEG2000Lossless) -> bytes:
    dataset = make_slice(syntax=syntax, NumberOfFrames=frames)
    dataset.PixelData = encapsulate([b"\xff\x4f" + b"\0" * 30] * fragments)
    dataset["PixelData"].is_undefined_length = True
    return save(dataset)


def test_compressed_pixels(make_slice, read) -> None:
    content = make_compressed(make_slice, fragments=2, frames=2)
    assert get_code(read(content)) == ""
    assert get_code(read(content + b"\0" * 10)) == ""  # padding at the end
    start = content.index(b"\xe0\x7f\x10\x00") + 12
    assert {get_code(read(content[:length])) for length in range(start, len(content))} == {"TRUNCATED"}
    assert get_code(read(make_compressed(make_slice, fragments=2, frames=3))) == "TRUNCATED"


def test_lossy(make_slice, read) -> None:
    assert not read(make_compressed(make_slice, 1)).groups[0].header.lossy
    assert read(make_compressed(make_slice, 1, syntax=JPEGBaseline8Bit)).groups[0].header.lossy
    assert read(save(make_slice(LossyImageCompression="01"))).groups[0].header.lossy
    assert not read(save(make_slice(LossyImageCompression="00"))).groups[0].header.lossy


@settings(FUZZ, max_examples=150)
@given(data=st.data())
def test_garbage_in_a_header_never_raises(make_slice, read, data: st.DataObject) -> None:
    frame = Dataset()
    frame.MRDiffusionSequence = [Dataset()]
    private = {(0x0019, 0x0010): ("LO", "SIEMENS MR HEADER"), (0x0019, 0x100C): ("IS", 50)}
    extra = {"PerFrameFunctionalGroupsSequence": [frame], "NumberOfFrames": 1} if data.draw(st.booleans()) else {}
    syntax = data.draw(st.sampled_from(SYNTAXES[:2]))
    content = bytearray(save(make_slice(private=private, syntax=syntax, SOPInstanceUID="1.2.3", **extra)))
    for _ in range(data.draw(st.integers(1, 8))):
        position = data.draw(st.integers(132, len(content) - 1))
        content[position : position + 1] = data.draw(st.binary(min_size=1, max_size=6))
    instance = read(bytes(content))
    if isinstance(instance, Instance):
        group_series([instance])
    else:
        assert instance.code in ("", "UNREADABLE", "TRUNCATED", "NOT_DICOM")


@settings(FUZZ, max_examples=100)
@given(content=st.binary(max_size=400), dicom=st.booleans())
def test_any_bytes(read, content: bytes, dicom: bool) -> None:
    instance = read(b"\0" * 128 + b"DICM" + content if dicom else content)
    if isinstance(instance, Instance):
        group_series([instance])
    else:
        assert instance.code in ("", "EMPTY_FILE", "UNREADABLE", "TRUNCATED", "NOT_DICOM", "ZIP_FOUND")
