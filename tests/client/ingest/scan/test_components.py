"""Magnitude, phase, real or imaginary: by every word a vendor has for it."""

import numpy as np
import pytest
from pydicom.dataset import Dataset

from prostafed.client.ingest.scan.components import find_component
from prostafed.client.ingest.scan.frames import read_frames
from tests.client.ingest.scan.test_frames import HERE, item


@pytest.mark.parametrize(
    ("value", "component"),
    [
        *((value, "magnitude") for value in ("M", "M_SE", "M_FFE", "MAGNITUDE", "mag")),
        *((value, "phase") for value in ("P", "PHASE", "PHASE MAP", "PHASE_MAP", "P_SE", "phase")),
        *((value, "real") for value in ("R", "REAL", "R_IR")),
        *((value, "imaginary") for value in ("I", "IMAGINARY", "I_FFE")),
        *((value, "") for value in ("", "ND", "NORM", "IN_PHASE", "OPP_PHASE", "MIP", "MPR", "RETRO", "IR", "PRIMARY")),
        *((value, "") for value in ("MIXED", "MIX", "PD", "MFSPLIT", "IP", "DIXON")),
    ],
)
def test_words(value: str, component: str) -> None:
    assert find_component(value) == component


def read(dataset: Dataset) -> list[str]:
    return [frame.component for frame in read_frames(dataset, HERE)]


@pytest.mark.parametrize(
    ("tags", "component"),
    [
        ({}, ""),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "phase"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "R_IR", "R", "IR"]}, "real"),
        ({"ImageType": ["P", "R", "OTHER"]}, ""),  # only from the third value on
        ({"ComplexImageComponent": "IMAGINARY"}, "imaginary"),
        ({"ComplexImageComponent": "MAGNITUDE"}, ""),
        ({"ComplexImageComponent": "MIXED"}, ""),
        ({"ComplexImageComponent": "PHASE", "ImageType": ["ORIGINAL", "PRIMARY", "M"]}, "phase"),  # to be safe
    ],
)
def test_a_classic_file(make_slice, tags: dict[str, object], component: str) -> None:
    assert read(make_slice(**tags)) == [component]


@pytest.mark.parametrize(("value", "component"), [(0, ""), (1, "phase"), (2, "real"), (3, "imaginary"), (-32768, "")])
def test_ge_says_it_in_a_private_element(make_slice, value: int, component: str) -> None:
    private = {(0x0043, 0x0010): ("LO", "GEMS_PARM_01"), (0x0043, 0x102F): ("SS", value)}
    assert read(make_slice(private=private, ImageType=["ORIGINAL", "PRIMARY", "OTHER"])) == [component]


def test_frames_of_an_enhanced_file_speak_before_the_file(make_slice) -> None:
    def frame(**elements: object) -> Dataset:
        return item(MRImageFrameTypeSequence=[item(**elements)])

    frames = [
        frame(ComplexImageComponent="MAGNITUDE"),
        frame(FrameType=["ORIGINAL", "PRIMARY", "PHASE_MAP", "NONE"]),
        frame(FrameType=["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]),
        Dataset(),
    ]
    volume = np.zeros((4, 4, 6))
    dataset = make_slice(
        volume, NumberOfFrames=4, PerFrameFunctionalGroupsSequence=frames, ComplexImageComponent="REAL"
    )
    assert read(dataset) == ["", "phase", "real", "real"]
    dataset.SharedFunctionalGroupsSequence = [frame(ComplexImageComponent="IMAGINARY")]
    assert read(dataset) == ["", "phase", "imaginary", "imaginary"]
