"""Image files are read whole or not at all."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.common.imaging.files import read_file


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr", "a.mha", "a.nrrd", "a.mhd"])
def test_a_file_that_ends_early_is_no_image(tmp_path: Path, name: str, dtype: type[np.generic]) -> None:
    voxels = np.random.default_rng(0).integers(1, 100, (5, 16, 17)).astype(dtype)
    path = tmp_path / name
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_file(path)), voxels)
    held = {".hdr": ".img", ".mhd": ".raw"}.get(path.suffix, path.suffix)
    content = path.with_suffix(held).read_bytes()
    for length in (len(content) * 2 // 3, len(content) - 1):
        os.truncate(path.with_suffix(held), length)
        if (name, length) == ("a.nii.gz", len(content) - 1):
            continue  # the last bytes are gzip's own: every voxel may still be there
        with pytest.raises(RuntimeError):
            read_file(path)


def test_a_volume_of_four_dimensions_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5, 6), np.float32), isVector=False), str(path))
    assert read_file(path).GetSize() == (6, 5, 4, 3)
