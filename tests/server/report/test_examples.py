import base64
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.image import imread

from prostafed.common.pages.pictures import GLAND_COLOUR, LESION_COLOUR, Picture, frame_gland
from prostafed.server.report.examples import heat_stops, read_example

SPACING = (0.5, 0.5)


def pixels(picture: Picture) -> npt.NDArray[np.float32]:
    prefix, _, data = picture.uri.partition(",")
    assert prefix == "data:image/png;base64"
    image: npt.NDArray[np.float32] = imread(io.BytesIO(base64.b64decode(data)))[..., :3]
    return image


def has_colour(picture: Picture, colour: str) -> bool:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return bool((np.abs(pixels(picture) - wanted).max(axis=2) < 0.05).any())


def rewrite(path: Path, drop: tuple[str, ...] = (), **changes: object) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name not in drop}
    np.savez(path, **{**arrays, **changes})  # type: ignore[arg-type]


@pytest.fixture
def example_file(run: Path) -> Path:
    return run / "examples" / "0.npz"


def test_each_sequence_carries_both_outlines(example_file: Path) -> None:
    example = read_example(example_file, SPACING)
    assert example is not None
    assert [picture.label for picture in example.pictures] == ["T2W", "ADC", "High b-value", "Detection map on T2W"]
    assert (example.site, example.case_id, example.source) == ("alpha", "alpha-0", "phantom")
    assert example.peak == pytest.approx(0.8, abs=0.05)
    for picture in example.pictures[:3]:
        assert has_colour(picture, GLAND_COLOUR)
        assert has_colour(picture, LESION_COLOUR)
    assert np.ptp(pixels(example.pictures[0])[5:20, 5:20], axis=2).max() < 0.02  # grey where nothing is drawn


def test_without_a_lesion_no_outline_is_drawn(example_file: Path) -> None:
    rewrite(example_file, lesion=np.zeros((48, 48), np.uint8))
    example = read_example(example_file, SPACING)
    assert example is not None
    assert not has_colour(example.pictures[0], LESION_COLOUR)


def test_a_classifier_has_no_detection_map(example_file: Path) -> None:
    rewrite(example_file, drop=("detection", "hbv"))
    example = read_example(example_file, SPACING)
    assert example is not None
    assert [picture.label for picture in example.pictures] == ["T2W", "ADC"]
    assert example.peak is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"plain text"])
def test_what_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    assert read_example(path, SPACING) is None


def test_the_window_is_a_square_in_mm_around_the_gland() -> None:
    gland = np.zeros((200, 200), dtype=np.float32)
    gland[80:120, 60:140] = 1  # 40 mm high at 1 mm, 40 mm wide at 0.5 mm
    rows, columns = frame_gland(gland, (1.0, 0.5))
    assert (rows.start, rows.stop) == (100 - 38, 100 + 38)
    assert (columns.start, columns.stop) == (100 - 76, 100 + 76)


def test_without_a_gland_everything_is_shown() -> None:
    assert frame_gland(np.zeros((4, 4), dtype=np.float32), SPACING) == (slice(None), slice(None))


def test_the_heat_legend_runs_from_dark_to_bright() -> None:
    stops = heat_stops()
    assert stops[0] < stops[-1]
    assert len(stops) == 6
