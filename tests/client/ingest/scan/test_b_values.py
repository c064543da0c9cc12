"""b-values of all vendors."""

import struct
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from prostafed.client.ingest.scan.b_values import is_directional, is_garbled, read_b_value, read_csa_number
from prostafed.client.ingest.scan.headers import read_studies


def make(*elements: tuple[int, str, object], **tags: object) -> Dataset:
    dataset = Dataset()
    for tag, vr, value in elements:
        dataset.add_new(tag, vr, value)
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def make_csa(fields: dict[str, list[str]], new: bool = True) -> bytes:
    """A Siemens CSA header of either kind; a field has 6 items or none, as those of scanners."""
    content = (b"SV10\4\3\2\1" if new else b"") + struct.pack("<II", len(fields), 77)
    for name, values in fields.items():
        count = 6 if values else 0
        content += struct.pack("<64si4siii", name.encode(), len(values), b"FD\0\0", 6, count, 77)
        for text in [*values, *[""] * (count - len(values))]:
            data = text.encode() + b"\0" if text else b""
            length = len(data)
            content += struct.pack("<4i", *((length, length, 77, length) if new else (length + count, 77, 77, 77)))
            content += data + b"\0" * (-length % 4)
    return content


SIEMENS = (0x0019_0010, "LO", "SIEMENS MR HEADER")
CSA = (0x0029_0010, "LO", "SIEMENS CSA HEADER")
GE = (0x0043_0010, "LO", "GEMS_PARM_01")
PHILIPS = (0x2001_0010, "LO", "Philips Imaging DD 001")
UIH = (0x0065_0010, "LO", "Image Private Header")


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (make(), None),
        (make(DiffusionBValue=800.0), 800),
        (make(DiffusionBValue=0.0), 0),
        (make(SIEMENS, (0x0019_100C, "IS", 400)), 400),
        (make(SIEMENS, (0x0019_100C, "UN", b"400 ")), 400),
        (make((0x0019_100C, "OB", b"50")), 50),
        (make((0x0019_0011, "LO", "SIEMENS MR HEADER"), (0x0019_110C, "IS", 400)), 400),
        (make(CSA, (0x0029_1010, "OB", make_csa({"A": ["1", "2"], "B_value": ["1400"]}))), 1400),
        (make(CSA, (0x0029_1010, "OB", b"SV10 garbage")), None),
        (make(SequenceName="*ep_b50t"), 50),
        (make(SequenceName="*ep_b1000#3"), 1000),
        (make(SequenceName="ep_b0"), 0),
        (make(SequenceName="*ep_b50_800"), None),  # a map made of both
        (make(SequenceName="*tse2d1_25"), None),
        (make(GE, (0x0043_1039, "IS", [1_000_000_800, 8, 0, 0])), 800),
        (make(GE, (0x0043_1039, "IS", [1400, 8, 0, 0])), 1400),
        (make((0x0043_1039, "UN", b"1000\\8\\0\\0")), 1000),
        (make(GE, (0x0043_1039, "IS", [335_544_320, 0])), None),  # garbage
        (make((0x0043_0010, "LO", "ACME"), (0x0043_1039, "IS", [800])), None),
        (make(PHILIPS, (0x2001_1003, "FL", 273.0)), 273),
        (make((0x2001_1003, "UN", b"\0\0zD")), 1000),
        (make(UIH, (0x0065_1009, "FD", 1500.0)), 1500),
        (make(UIH, (0x0065_1009, "UN", struct.pack("<d", 1500))), 1500),
        (make(DiffusionBValue=-1.0), None),
        (make(DiffusionBValue=float("nan")), None),
        (make(DiffusionBValue=20_000.0), None),
        (make(SeriesDescription="ep2d_diff_b1400", ProtocolName="b800"), None),  # never from what people write
    ],
)
def test_of_each_vendor(dataset: Dataset, expected: float | None) -> None:
    assert read_b_value(dataset) == expected


def test_the_first_source_counts_and_a_bad_one_gives_way_to_the_next() -> None:
    csa = (0x0029_1010, "OB", make_csa({"B_value": ["300"]}))
    sources = [
        {"DiffusionBValue": 100.0},
        (SIEMENS, (0x0019_100C, "IS", 200)),
        (CSA, csa),
        {"SequenceName": "*ep_b400t"},
        (GE, (0x0043_1039, "IS", [500])),
        (PHILIPS, (0x2001_1003, "FL", 600.0)),
        (UIH, (0x0065_1009, "FD", 700.0)),
    ]
    for number in range(len(sources)):
        dataset = Dataset()
        for source in sources[number:]:
            for tag, vr, value in source if isinstance(source, tuple) else ():
                dataset.add_new(tag, vr, value)
            for name, value in source.items() if isinstance(source, dict) else ():
                setattr(dataset, name, value)
        assert read_b_value(dataset) == 100 * (number + 1)
    dataset = make(SIEMENS, (0x0019_100C, "IS", 200), DiffusionBValue=float("inf"))
    assert read_b_value(dataset) == 200


def test_of_a_frame_its_own_group_goes_before_the_shared_one_and_the_file() -> None:
    own = make(MRDiffusionSequence=[make(DiffusionBValue=50.0)])
    shared = make(MRDiffusionSequence=[make(DiffusionBValue=800.0)])
    dataset = make(DiffusionBValue=1400.0)
    assert read_b_value(dataset, own, shared) == 50
    assert read_b_value(dataset, make(), shared) == 800
    assert read_b_value(dataset, make()) == 1400
    without = make(MRDiffusionSequence=[make(DiffusionDirectionality="NONE")])
    assert read_b_value(make(), without) == 0


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (make(), False),
        (make(DiffusionBValue=0.0, DiffusionGradientOrientation=[0.0, 0.0, 1.0]), False),
        (make(DiffusionBValue=800.0), False),
        (make(DiffusionBValue=800.0, DiffusionDirectionality="DIRECTIONAL"), True),
        (make(DiffusionBValue=800.0, DiffusionDirectionality="ISOTROPIC"), False),
        (make(DiffusionBValue=800.0, DiffusionGradientOrientation=[0.0, 0.6, 0.8]), True),
        (make(DiffusionBValue=800.0, DiffusionGradientOrientation=[0.0, 0.0, 0.0]), False),  # Philips, isotropic
        (make(SIEMENS, (0x0019_100C, "IS", 50), (0x0019_100E, "FD", [0.0, 0.6, 0.8])), True),
        (make(SIEMENS, (0x0019_100C, "IS", 50), (0x0019_100D, "UN", b"ISOTROPIC ")), False),
        (make(SIEMENS, (0x0019_100C, "IS", 50), (0x0019_100D, "CS", "DIRECTIONAL")), True),
        (make(SequenceName="*ep_b1000#3"), True),
        (make(SequenceName="*ep_b1000t"), False),
        (make(SequenceName="*ep_b1000#3", ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"]), False),
        (make(PHILIPS, (0x2001_1003, "FL", 800.0), (0x2001_1004, "CS", "I")), False),
        (make(PHILIPS, (0x2001_1003, "FL", 800.0), (0x2001_1004, "CS", "S")), True),
    ],
)
def test_whether_one_direction_only(dataset: Dataset, expected: bool) -> None:
    assert is_directional(dataset) is expected


def test_directionality_of_a_frame() -> None:
    one = make(MRDiffusionSequence=[make(DiffusionBValue=800.0, DiffusionDirectionality="DIRECTIONAL")])
    trace = make(MRDiffusionSequence=[make(DiffusionBValue=800.0, DiffusionDirectionality="ISOTROPIC")])
    assert is_directional(make(), one)
    assert not is_directional(make(), trace)
    without = make(MRDiffusionSequence=[make(DiffusionBValue=0.0)])
    assert not is_directional(make(DiffusionBValue=800.0, DiffusionGradientOrientation=[0.0, 0.6, 0.8]), without)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("value", ["0", "50", "1400", "1.5e3"])
def test_csa_header_as_nibabel_reads_it(new: bool, value: str) -> None:
    content = make_csa({"None": [], "EchoLinePosition": ["64"], "B_value": [value], "Last": ["7"]}, new)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls itself experimental
        from nibabel.nicom import csareader
    oracle = csareader.read(content)["tags"]["B_value"]["items"][0]
    assert oracle == float(value)
    assert read_csa_number(content, "B_value") == float(value)
    assert read_csa_number(content, "Last") == 7
    assert read_csa_number(content, "None") is None
    assert read_csa_number(content, "B_val") is None


@pytest.mark.parametrize("length", [-16, -1, 10_000])
def test_a_csa_length_that_leads_nowhere_ends_the_search(length: int) -> None:
    item = struct.pack("<4i", 0, length, 77, 0)
    content = b"SV10" + b"\0" * 4 + struct.pack("<II", 1, 77) + struct.pack("<64s12xi4x", b"B_value", 2**31 - 1)
    for name in ("B_value", "Later"):
        assert read_csa_number(content + item * 20, name) is None


@given(st.data())
def test_a_damaged_csa_header_never_raises(data: st.DataObject) -> None:
    content = bytearray(make_csa({"A": ["1", "22", "333"], "B_value": ["1400"]}, data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    value = read_csa_number(bytes(content[:cut]), "B_value")
    assert value is None or isinstance(value, float)


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        "ge/dti/001",
        "ge/dti/001_implicit",
        "philips/dti/001",
        "philips/dti/001_implicit",
        "philips/dti/002",
        "philips_enhanced/dti/001",
        "philips_enhanced/dti/001_implicit",
        "siemens/dti_classic/001",
        "siemens/dti_classic/001_implicit",
    ],
)
def test_real_files_have_the_b_values_of_their_bval_file(data_folder: Path, name: str) -> None:
    folder = data_folder / "dicom_vendors" / "dicom2nifti" / name
    (study,), findings = read_studies(folder)
    assert findings == []
    (series,) = study.series
    assert series.kind == "dwi"
    expected = [float(value) for value in Path(f"{folder}_ground_truth.bval").read_text().split()]
    places = len(series.slices) // len(expected)
    found = sorted(each.b_value_s_per_mm2 for each in series.slices)  # type: ignore[type-var]
    assert found == sorted(expected * places)
    assert {each.b_value_s_per_mm2 for each in series.slices if each.directional} <= {max(expected)}


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "b_values", "kind"),
    [
        ("ge/dti/002", (0,), "other"),
        ("ge/anatomical/001", (0,), "other"),
        ("philips/anatomical/001", (0,), "other"),
        ("siemens/anatomical/001", (), "other"),
        ("siemens/dti_mosaic/001", (0,), "reject"),
        ("hitachi/anatomical/001", (), "other"),
    ],
)
def test_real_files_without_diffusion(data_folder: Path, name: str, b_values: tuple[float, ...], kind: str) -> None:
    (study,), _ = read_studies(data_folder / "dicom_vendors" / "dicom2nifti" / name)
    (series,) = study.series
    assert (series.kind, series.b_values_s_per_mm2) == (kind, b_values)
    assert [each.code for each in study.findings if each.code == "MOSAIC"] == ["MOSAIC"] * ("mosaic" in name)


@pytest.mark.parametrize(
    ("dataset", "garbled"),
    [
        (make(), False),
        (make(DiffusionBValue=0.0), False),
        (make(DiffusionBValue=20_000.0), True),
        (make(DiffusionBValue=float("nan")), True),
        (make(DiffusionBValue=-1.0, SequenceName="*ep_b50t"), False),  # another element can be read
        (make(GE, (0x0043_1039, "IS", [1_000_000_000 + 999_999])), True),
        (make(SIEMENS, (0x0019_100C, "UN", b"abc ")), True),
        (make(UIH, (0x0065_1009, "UN", b"1234567")), True),
    ],
)
def test_a_b_value_that_is_there_and_cannot_be_read(dataset: Dataset, garbled: bool) -> None:
    assert is_garbled(dataset) is garbled
