"""ADC maps whose header does not tell: on series without files, whose pixels travel as their instance's name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prostafed.client.findings import SourceError
from prostafed.client.ingest.images import stack
from prostafed.client.ingest.images.candidates import CHOSEN
from prostafed.client.ingest.images.unnamed_maps import settle_maps
from prostafed.client.ingest.records import Header, Series, Slice

PROCESSED = ("DERIVED", "SECONDARY", "PROCESSED")
RNG = np.random.default_rng(3)
SHAPE = (4, 12, 12)
ADC = RNG.uniform(700, 1900, SHAPE)
S0 = RNG.uniform(400, 1200, SHAPE)
MAPS: dict[str, np.ndarray] = {
    "b0": S0,
    "b800": S0 * np.exp(-0.8e-3 * ADC),
    "adc": ADC + RNG.normal(0, 60, SHAPE),
    "adc in mm2/s": ADC * 1e-6,
    "eadc": 1000 * np.exp(-0.8e-3 * ADC) + RNG.normal(0, 5, SHAPE),
    "synthetic": 1.3 * S0 * np.exp(-1.4e-3 * ADC) + RNG.normal(0, 5, SHAPE),
    "noise": RNG.uniform(300, 3500, SHAPE),
}


@pytest.fixture(autouse=True)
def _pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(slices: list[Slice], severity: str) -> np.ndarray:
        return np.stack([MAPS[each.instance_uid][each.frame] for each in slices]).astype(np.float32)

    monkeypatch.setattr(stack, "read_pixels", read)


def make(name: str, b: float, image_type: tuple[str, ...] = PROCESSED, reason: str = "") -> Series:
    header = Header(
        *("MR", "", "", image_type, 1, "", 68.0, 3000.0, 3.0), contrast=False, time_points=1, quantity="",
        lossy=False, burned_in=False, body_part="", patient_sex="M",
    )  # fmt: skip
    one = Slice(Path("x"), 0, name, None, 12, 12, None, (1, 0, 0, 0, 1, 0), (2, 2), b, False, 1.0, 0.0)
    slices = tuple(replace(one, frame=z, position_mm=(0.0, 0.0, 3.0 * z)) for z in range(4))
    return Series(name, 1, header, slices, "dwi", "axial", reason)


ACQUIRED = (make("b0", 0, ("ORIGINAL", "PRIMARY")), make("b800", 800, ("ORIGINAL", "PRIMARY")))


def settle(*series: Series) -> tuple[list[str], list[str]]:
    said: list[SourceError] = []
    settled = settle_maps(series, lambda error, of: said.append(error))
    assert [replace(each, kind="dwi") for each in settled] == list(series)
    return [each.kind for each in settled], [each.code for each in said]


@pytest.mark.parametrize(
    ("name", "b", "kind"),
    [
        ("adc", 800, "adc"),
        ("adc in mm2/s", 500, "adc"),
        ("eadc", 800, "derived"),  # its median is that of an ADC map, too
        ("synthetic", 1400, "dwi"),
    ],
)
def test_a_map_is_known_by_what_the_other_images_foretell(name: str, b: float, kind: str) -> None:
    assert settle(*ACQUIRED, make(name, b)) == (["dwi", "dwi", kind], [])


def test_what_follows_nothing_is_asked_about_and_left_out() -> None:
    assert settle(*ACQUIRED, make("noise", 800)) == (["dwi", "dwi", "other"], ["ASK_MAP"])


def test_where_nothing_can_be_foretold_a_person_is_asked() -> None:
    assert settle(ACQUIRED[0], make("adc", 800)) == (["dwi", "other"], ["ASK_MAP"])


@pytest.mark.parametrize(
    "series",
    [
        make("adc", 800, ("DERIVED", "PRIMARY", "PROCESSED")),
        make("adc", 800, reason=CHOSEN),
        replace(make("adc", 800), slices=make("adc", 800).slices * 2),  # two images per position
        replace(make("adc", 800), slices=make("adc", 800).slices[:2] + make("adc", 400).slices[2:]),
    ],
)
def test_others_are_what_they_were(series: Series) -> None:
    assert settle(*ACQUIRED, series) == (["dwi", "dwi", "dwi"], [])


def test_a_study_of_processed_images_alone_is_left_as_it_is() -> None:
    assert settle(make("b0", 0), make("b800", 800)) == (["dwi", "dwi"], [])
