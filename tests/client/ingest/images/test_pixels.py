import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders import JPEG2000LosslessDecoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from prostafed.client.findings import SourceError
from prostafed.client.ingest.images.pixels import read_pixels
from prostafed.client.ingest.records import Slice, Stored

MakeSlice = Callable[..., FileDataset]
VALUES = np.arange(24).reshape(4, 6) * 40


def refer(
    path: Path, frame: int = 0, slope: float = 1.0, intercept: float = 0.0, stored: Stored | None = None
) -> Slice:
    return Slice(path, frame, "1", 1, 4, 6, None, None, None, None, False, slope, intercept, stored)


def assert_refused(code: str, slices: list[Slice], severity: str = "F") -> SourceError:
    with pytest.raises(SourceError) as caught:
        read_pixels(slices, "F" if severity == "F" else "S")
    assert (caught.value.code, caught.value.severity) == (code, severity)
    assert "Doe" not in caught.value.text
    return caught.value


@pytest.fixture
def path(tmp_path: Path, make_slice: MakeSlice) -> Path:
    make_slice(VALUES).save_as(tmp_path / "Doe^John.dcm", enforce_file_format=True)
    return tmp_path / "Doe^John.dcm"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_pixels(tmp_path: Path, make_slice: MakeSlice, syntax: str) -> None:
    make_slice(VALUES, syntax=syntax).save_as(tmp_path / "Doe", enforce_file_format=True)
    assert np.array_equal(read_pixels([refer(tmp_path / "Doe")]), VALUES[None])


def test_big_endian_pixels(tmp_path: Path, make_slice: MakeSlice) -> None:
    dataset = make_slice(VALUES, syntax=ExplicitVRBigEndian)
    dataset.PixelData = VALUES.astype(">u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(tmp_path / "Doe", enforce_file_format=True)
    assert np.array_equal(read_pixels([refer(tmp_path / "Doe")]), VALUES[None])


@pytest.mark.parametrize("syntax", [JPEGLSLossless, RLELossless])
def test_compressed_pixels(tmp_path: Path, make_slice: MakeSlice, syntax: str) -> None:
    dataset = make_slice(VALUES)
    dataset.compress(syntax)
    dataset.save_as(tmp_path / "Doe", enforce_file_format=True)
    assert np.array_equal(read_pixels([refer(tmp_path / "Doe")]), VALUES[None])


BIG = np.arange(64 * 64).reshape(64, 64)  # gdcm's JPEG 2000 encoder crashes on fewer pixels


@pytest.fixture
def big(tmp_path: Path, make_slice: MakeSlice) -> Path:
    make_slice(BIG).save_as(tmp_path / "Doe.dcm", enforce_file_format=True)
    return tmp_path / "Doe.dcm"


@pytest.fixture
def jpeg2000(big: Path) -> Path:
    """A file compressed without loss, by gdcm."""
    return transcode(big, "JPEG2000Lossless")


def transcode(path: Path, syntax: str) -> Path:
    gdcm = pytest.importorskip("gdcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path.with_suffix(".out")))
    assert writer.Write()
    return path.with_suffix(".out")


@pytest.mark.parametrize("syntax", ["JPEG2000Lossless", "JPEGLosslessProcess14_1"])
def test_what_archives_compress_with(big: Path, syntax: str) -> None:
    slices = [replace(refer(transcode(big, syntax)), rows=64, columns=64)]
    assert np.array_equal(read_pixels(slices), BIG[None])


def test_each_slice_has_its_own_rescale(path: Path) -> None:
    read = read_pixels([refer(path, slope=2.0, intercept=-7.0), refer(path, slope=0.5)])
    assert read.dtype == np.float32
    assert np.array_equal(read, [VALUES * 2 - 7, VALUES / 2])


def test_padding_is_no_signal(path: Path) -> None:
    padded = replace(refer(path, slope=2.0, intercept=30.0), padding=(880, 920))  # 880 and 920 are the largest values
    expected = VALUES * 2 + 30.0
    expected[VALUES >= 880] = 0
    assert np.array_equal(read_pixels([padded, refer(path)]), [expected, VALUES])
    below = replace(refer(path, intercept=-500.0), padding=(920, 920))
    assert read_pixels([below])[0, -1, -1] == -500, "the lowest value where that is below 0"
    assert not read_pixels([replace(refer(path), padding=(0, 999))]).any(), "nothing but padding"


@pytest.mark.parametrize("of_place", [True, False])
def test_padding_of_signed_pixels(tmp_path: Path, make_slice: MakeSlice, of_place: bool) -> None:
    dataset = make_slice(VALUES, PixelRepresentation=1, BitsStored=12, HighBit=11)
    stored = np.where(VALUES == 40, -2000, VALUES)
    dataset.PixelData = stored.astype("<i2").tobytes()
    dataset.save_as(tmp_path / "Doe", enforce_file_format=True)
    offset = (tmp_path / "Doe").read_bytes().index(dataset.PixelData)
    place = Stored(offset, "<i2", 12) if of_place else None
    read = read_pixels([replace(refer(tmp_path / "Doe", stored=place), padding=(-2000, -2000))])
    assert np.array_equal(read[0], np.where(VALUES == 40, 0, VALUES))


def test_inverted_pixels_are_turned_over(path: Path) -> None:
    inverted = replace(refer(path, slope=2.0), inverted=True)
    assert np.array_equal(read_pixels([inverted])[0], (VALUES.max() - VALUES) * 2)
    padded = replace(inverted, padding=(920, 920))  # the largest value, shown black
    expected = (880 - VALUES) * 2
    expected[-1, -1] = 0
    assert np.array_equal(read_pixels([padded])[0], expected)


def test_signed_pixels(tmp_path: Path, make_slice: MakeSlice) -> None:
    dataset = make_slice(VALUES, PixelRepresentation=1, BitsStored=12, HighBit=11)
    dataset.PixelData = (VALUES - 500).astype("<i2").tobytes()
    dataset.save_as(tmp_path / "Doe", enforce_file_format=True)
    assert np.array_equal(read_pixels([refer(tmp_path / "Doe")]), VALUES[None] - 500)


def test_frames_come_in_the_order_asked_for(tmp_path: Path, make_slice: MakeSlice) -> None:
    frames = np.stack([VALUES, VALUES + 1, VALUES + 2])
    make_slice(frames, NumberOfFrames=3).save_as(tmp_path / "Doe", enforce_file_format=True)
    read = read_pixels([refer(tmp_path / "Doe", frame) for frame in (2, 0, 2)])
    assert np.array_equal(read, frames[[2, 0, 2]])


@pytest.mark.parametrize(("kind", "bits"), [("<u2", 16), ("<u2", 12), ("<i2", 12), ("|u1", 8), ("<u4", 32)])
def test_pixels_whose_place_is_known_are_those_pydicom_reads(
    tmp_path: Path, make_slice: MakeSlice, kind: str, bits: int
) -> None:
    values = np.random.default_rng(1).integers(0, 2 ** min(bits, 16), (4, 6))  # above the sign bit, too
    size = np.dtype(kind).itemsize
    signed = int("i" in kind)
    dataset = make_slice(values, BitsAllocated=8 * size, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=signed)
    overlay = 0xF000 if bits == 12 else 0  # old files keep a drawing in the bits that are not used
    dataset.PixelData = (values | overlay).astype(kind.replace("i", "u")).tobytes()
    path = tmp_path / "Doe"
    dataset.save_as(path, enforce_file_format=True)
    offset = path.read_bytes().index(dataset.PixelData)
    placed = read_pixels([refer(path, stored=Stored(offset, kind, bits))])
    assert np.array_equal(placed, read_pixels([refer(path)]))
    assert placed.min() < 0 if signed else np.array_equal(placed[0], values)


def test_a_file_cut_short_after_its_header_was_read(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert_refused("TRUNCATED", [refer(path)])
    assert_refused("TRUNCATED", [refer(path, stored=Stored(len(whole) - 48, "<u2", 16))])


def test_a_file_that_went_away(path: Path) -> None:
    path.unlink()
    assert_refused("UNREADABLE", [refer(path)], "S")
    assert_refused("UNREADABLE", [refer(path, stored=Stored(0, "<u2", 16))], "S")


def test_compressed_pixels_that_are_garbage(jpeg2000: Path) -> None:
    dataset = dcmread(jpeg2000)
    dataset.PixelData = encapsulate([b"\0garbage" * 9])
    dataset.save_as(jpeg2000, enforce_file_format=True)
    assert_refused("UNREADABLE", [refer(jpeg2000)], "S")


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.94"])  # MPEG-4, JPIP
def test_a_compression_without_a_decoder(tmp_path: Path, make_slice: MakeSlice, syntax: str) -> None:
    dataset = make_slice(VALUES)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([b"\0\0\0\x18ftypmp42" * 8])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / "Doe", enforce_file_format=True)
    assert_refused("NO_DECODER", [refer(tmp_path / "Doe")])


def test_a_decoder_that_is_not_installed(jpeg2000: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JPEG2000LosslessDecoder, "_available", {})
    assert "dicom-codecs" in assert_refused("NO_DECODER", [refer(jpeg2000)], "S").text


@pytest.mark.parametrize("slope", [0.0, float("nan"), float("inf")])
def test_a_rescale_that_cannot_be_used_skips_the_source(path: Path, slope: float) -> None:
    for severity in ("S", "F"):
        error = assert_refused("BAD_RESCALE", [refer(path), refer(path, slope=slope)], severity)
        assert "slice 2 of 2" in error.text


def test_infinite_values_are_refused_with_their_slice(tmp_path: Path, make_slice: MakeSlice) -> None:
    paths = []
    for number, bad in enumerate((0.0, np.nan)):
        dataset = make_slice(VALUES, BitsAllocated=32)
        pixels = VALUES.astype("<f4")
        pixels[1, 1] += bad
        del dataset.PixelData
        dataset.FloatPixelData = pixels.tobytes()
        paths.append(tmp_path / str(number))
        dataset.save_as(paths[-1], enforce_file_format=True)
    assert np.array_equal(read_pixels([refer(paths[0])])[0], VALUES)
    assert "slice 2 of 2" in assert_refused("NOT_FINITE", [refer(each) for each in paths]).text


def test_pixels_of_another_size_than_the_header_said(path: Path) -> None:
    assert_refused("MIXED_SIZE", [replace(refer(path), rows=6, columns=4)])


def test_a_colour_image_is_refused(tmp_path: Path, make_slice: MakeSlice) -> None:
    dataset = make_slice(
        VALUES,
        **{"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0},
        **{"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
    )
    dataset.PixelData = bytes(72)
    dataset.save_as(tmp_path / "Doe", enforce_file_format=True)
    assert_refused("MIXED_SIZE", [refer(tmp_path / "Doe")])


def test_nothing_of_the_file_is_said(tmp_path: Path, make_slice: MakeSlice) -> None:
    dataset = make_slice(VALUES)
    dataset.PixelData += b"\0\0"  # pydicom warns of padding
    dataset.save_as(tmp_path / "Doe", enforce_file_format=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_pixels([refer(tmp_path / "Doe")]), VALUES[None])
