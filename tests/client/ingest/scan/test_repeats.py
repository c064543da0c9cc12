"""Copies of an image, and images that only share a number."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, RLELossless

from prostafed.client.ingest.scan.instances import Instance, read_instances
from prostafed.client.ingest.scan.repeats import digest_pixels, drop_repeats

ONES = np.ones((4, 6))
A = {"SOPInstanceUID": "1.2.1", "InstanceNumber": 1}


def keep(paths: Sequence[Path]) -> list[str]:
    read = [each for each in read_instances(paths) if isinstance(each, Instance)]
    assert len(read) == len(paths)
    return [each.path.name for each in drop_repeats(read)]


@pytest.mark.parametrize(
    ("pixels", "tags", "kept"),
    [
        (None, {}, ["a"]),
        (None, {"SOPInstanceUID": "1.2.2"}, ["a"]),  # a copy under another UID
        (None, {"InstanceNumber": 2}, ["a"]),  # or another number
        (None, {"SOPInstanceUID": "1.2.2", "InstanceNumber": 2}, ["a", "b"]),
        (ONES, {}, ["a", "b"]),
        (None, {"SeriesInstanceUID": "1.9"}, ["a", "b"]),
        (None, {"ImagePositionPatient": [0, 0, 3]}, ["a", "b"]),
        (None, {"AcquisitionNumber": 2}, ["a", "b"]),
        (None, {"DiffusionBValue": 800.0}, ["a", "b"]),
        (None, {"RescaleSlope": 2}, ["a", "b"]),
        (None, {"EchoTime": 80}, ["a", "b"]),
    ],
)
def test_a_repeat_agrees_in_series_place_and_pixels(
    make_slice, tmp_path: Path, pixels: np.ndarray | None, tags: dict[str, object], kept: list[str]
) -> None:
    make_slice(**A).save_as(tmp_path / "a")
    make_slice(pixels, **(A | tags)).save_as(tmp_path / "b")
    assert keep([tmp_path / "a", tmp_path / "b"]) == kept


def test_the_third_is_held_against_all_before(make_slice, tmp_path: Path) -> None:
    for name, pixels in (("a", None), ("b", ONES), ("c", ONES), ("d", None)):
        make_slice(pixels, **A).save_as(tmp_path / name)
    assert keep([tmp_path / name for name in "abcd"]) == ["a", "b"]


def test_what_cannot_be_read_is_like_nothing_else(make_slice, tmp_path: Path) -> None:
    assert digest_pixels(tmp_path / "a") != digest_pixels(tmp_path / "b")
    dataset = make_slice(syntax=JPEG2000Lossless)
    dataset.PixelData = encapsulate([b"\xff\x4f" + b"\0" * 30])
    dataset["PixelData"].is_undefined_length = True
    for name in "ab":
        dataset.save_as(tmp_path / name)
    assert digest_pixels(tmp_path / "a") == digest_pixels(tmp_path / "b")


def test_a_copy_in_another_compression_is_a_repeat(make_slice, tmp_path: Path) -> None:
    dataset = make_slice(**A)
    dataset.save_as(tmp_path / "a")
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(tmp_path / "b")
    assert keep([tmp_path / "a", tmp_path / "b"]) == ["a"]
