"""Two positions in one file, against nibabel."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prostafed.common.imaging.nifti import measure_disagreement

SHAPE = (5, 7, 3)


def rotate(x: float, y: float, z: float, steps_mm: tuple[float, float, float] = (0.5, -0.8, 3.0)) -> np.ndarray:
    """Return an affine: turned by these angles, with these steps; a negative one mirrors."""
    turned = nibabel.eulerangles.euler2mat(z, y, x)
    return nibabel.affines.from_matvec(turned @ np.diag(steps_mm), (9, -4, 2))


def save(
    path: Path,
    qform: np.ndarray,
    sform: np.ndarray,
    codes: tuple[int, int] = (1, 1),
    endianness: str = "<",
) -> Path:
    """Write what nibabel makes of both positions: the header, and no voxels."""
    header = nibabel.Nifti1Header(endianness=endianness)
    header.set_data_shape(SHAPE)
    header.set_data_dtype(np.uint8)
    header.set_qform(qform, codes[0])
    header.set_sform(sform, codes[1])
    with nibabel.openers.Opener(str(path), "wb") as file:
        file.write(header.binaryblock)
    return path


@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr"])
def test_every_header_is_read(tmp_path: Path, endianness: str, name: str) -> None:
    affine = rotate(0.3, -0.2, 0.5)
    off = affine.copy()
    off[:3, 3] += 2 * affine[:3, 1]  # two voxels along y
    path = save(tmp_path / name, affine, affine, endianness=endianness)
    assert measure_disagreement(path) == pytest.approx(0, abs=1e-4)
    path = save(tmp_path / name, affine, off, endianness=endianness)
    assert measure_disagreement(path) == pytest.approx(2, abs=1e-4)
    assert measure_disagreement(path.with_suffix(".img")) == pytest.approx(2 if path.suffix == ".hdr" else 0, abs=1e-4)


@pytest.mark.parametrize(("codes", "voxels"), [((1, 1), 4), ((1, 2), 4), ((1, 0), 0), ((0, 1), 0), ((0, 0), 0)])
def test_a_code_of_0_is_no_position(tmp_path: Path, codes: tuple[int, int], voxels: float) -> None:
    off = np.diag((1.0, 1.0, 1.0, 1.0))
    off[0, 0] = 2  # of 5 voxels along x the last is 4 voxels away
    assert measure_disagreement(save(tmp_path / "a.nii", np.eye(4), off, codes)) == pytest.approx(voxels, abs=1e-5)


@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3), mirrored=st.booleans(), shift_mm=st.tuples(*[st.floats(-9, 9)] * 3)
)
@settings(max_examples=60, deadline=None)
def test_it_is_what_nibabel_makes_of_it(
    tmp_path_factory: pytest.TempPathFactory,
    angles: tuple[float, float, float],
    mirrored: bool,
    shift_mm: tuple[float, float, float],
) -> None:
    qform = rotate(*angles, steps_mm=(0.5, -0.8 if mirrored else 0.8, 3))
    sform = rotate(angles[0] + 0.1, angles[1], angles[2])
    sform[:3, 3] += shift_mm
    path = save(tmp_path_factory.mktemp("nifti") / "a.nii", qform, sform)
    header = nibabel.Nifti1Header.from_fileobj(path.open("rb"))
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(SHAPE) - 1)
    other = nibabel.affines.apply_affine(np.linalg.inv(header.get_qform()) @ header.get_sform(), corners)
    assert measure_disagreement(path) == pytest.approx(np.abs(other - corners).max(), rel=1e-3, abs=1e-3)


def test_numbers_that_are_none_are_another_place(tmp_path: Path) -> None:
    assert measure_disagreement(save(tmp_path / "a.nii", np.eye(4), np.full((4, 4), np.nan))) > 1


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"\x1f\x8bnot gzip", b"\x5c\x01\0\0", b"MHA" * 200])
def test_other_files_say_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.nii").write_bytes(content)
    assert measure_disagreement(tmp_path / "a.nii") == 0
    assert measure_disagreement(tmp_path / "gone.nii") == 0


@pytest.mark.data
def test_the_positions_of_real_files_agree(data_folder: Path) -> None:
    files = [*data_folder.glob("picai_l*/**/*.nii.gz"), *data_folder.glob("prostate158_layout/**/*.nii.gz")]
    assert len(files) > 200
    assert max(map(measure_disagreement, files)) < 0.2
