"""MSD Task05: the two volumes of a 4D file, and a real label."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.common.errors import DataError
from prostafed.common.imaging.intensity import normalise
from prostafed.simulations.datasets.msd import list_files
from prostafed.simulations.datasets.study import read_masks
from tests.simulations.datasets.layouts import GRID, load, make_images, make_masks, save

BOTH = ("t2w", "adc")


def write(root: Path) -> None:
    """prostate_00 and _02 with labels, _01 without; and what macOS leaves behind in tar files."""
    for number, part in ((0, "Tr"), (1, "Ts"), (2, "Tr")):
        images = make_images(number)
        name = f"prostate_{number:02d}.nii.gz"
        save(root / f"images{part}" / name, np.stack([images["t2w"], images["adc"]]))
        if part == "Tr":
            save(root / "labelsTr" / name, make_masks()["zones"].astype(np.float32))
    (root / "imagesTr" / "._prostate_00.nii.gz").write_bytes(b"macOS")


def test_volume_0_is_t2_and_volume_1_is_adc(written):
    record, image, _ = next(load("msd", written("msd"), GRID, BOTH))
    images = make_images(0)
    for channel, name in zip(image, BOTH, strict=True):
        np.testing.assert_allclose(channel, normalise(images[name][1:7, 8:32, 8:32]), atol=2e-3)
    assert (record.case_id, record.patient_id, record.cspca) == ("prostate_00", "prostate_00", None)


def test_studies_without_labels_come_without_masks(written):
    masks = {record.case_id: record.masks for record, _, _ in load("msd", written("msd"), GRID, BOTH)}
    assert masks == {"prostate_00": ("gland", "zones"), "prostate_01": (), "prostate_02": ("gland", "zones")}


def test_files_of_macos_are_no_studies(written):
    assert [study.record.case_id for study in list_files(written("msd"))] == [f"prostate_0{i}" for i in range(3)]


def test_the_folder_above_does_as_well(copied, tmp_path):
    copied("msd").rename(tmp_path / "Task05_Prostate")
    assert len(list_files(tmp_path)) == 3


@pytest.mark.parametrize("lost", ["imagesTr", "labelsTr"])
def test_every_training_image_needs_its_label_and_the_reverse(copied, lost):
    root = copied("msd")
    (root / lost / "prostate_02.nii.gz").unlink()
    with pytest.raises(DataError, match=r"expected labelsTr/prostate_02.nii.gz beside imagesTr/prostate_02.nii.gz"):
        load("msd", root, GRID, BOTH)


def test_an_image_without_adc_is_refused(copied):
    root = copied("msd")
    save(root / "imagesTr" / "prostate_00.nii.gz", make_images(0)["t2w"])
    with pytest.raises(
        DataError, match=r"^NO_GEOMETRY case=prostate_00: expected 2 volumes, T2 and ADC, found .*40, 8\)"
    ):
        list(load("msd", root, GRID, BOTH))


def test_another_label_is_refused(copied):
    root = copied("msd")
    path = root / "labelsTr" / "prostate_00.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(path)) * 3, str(path))
    with pytest.raises(DataError, match=r"^MASK_LABEL case=prostate_00: expected \[1, 2\] in the zones mask, found 3"):
        list(load("msd", root, GRID, BOTH))


@pytest.mark.data
def test_a_real_label_has_pz_behind_tz(data_folder: Path, tmp_path: Path) -> None:
    """The one real label: 8.4 ml of PZ and 38.9 ml of TZ by its voxels, PZ towards the back of the patient."""
    path = data_folder / "msd_task05_label" / "prostate_mask_00.nii.gz"
    if not path.is_file():
        pytest.skip("no msd_task05_label/")
    label = sitk.ReadImage(str(path))
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    (tmp_path / "labelsTr" / "prostate_00.nii.gz").symlink_to(path)
    generator = np.random.default_rng(0)  # the image is not among the files: noise on the label's grid
    values = generator.normal(500, 100, (2, *label.GetSize()[::-1])).astype(np.float32)
    image = sitk.JoinSeries([_on(volume, label) for volume in values])
    sitk.WriteImage(image, str(tmp_path / "imagesTr" / "prostate_00.nii.gz"))
    (record, _, masks), *_ = load("msd", tmp_path, type(GRID)((4.0, 0.6, 0.6), (15, 160, 160)), BOTH)
    assert record.masks == ("gland", "zones")
    before = sitk.GetArrayFromImage(read_masks(list_files(tmp_path)[0])["zones"])
    for zone, count in ((1, 5813), (2, 27033)):
        assert (before == zone).sum() == count
        assert (masks[1] == zone).sum() == pytest.approx(count, rel=0.03)
    pz_y, tz_y = (np.argwhere(masks[1] == zone)[:, 1].mean() for zone in (1, 2))
    assert pz_y > tz_y + 10


def _on(voxels: np.ndarray, reference: sitk.Image) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels)
    image.CopyInformation(reference)
    return image
