"""The real study: what a model marks comes back on the T2W where PI-CAI's reader and its gland mask have it."""

import json
import re
from pathlib import Path

import highdicom as hd
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
import SimpleITK as sitk

from prostafed.common.bundle.record import Bundle
from prostafed.common.imaging.cases import Grid, Image
from prostafed.common.imaging.resample import lay_box, resample, settle_center
from tests.client.predict.conftest import Predict
from tests.client.predict.test_run import DCIODVFY, check_with_dciodvfy
from tests.common.bundle.tiny_bundle import make_bundle, make_study

GRIDS = {"as the T2W": Grid((3.0, 0.5, 0.5), (20, 256, 256)), "coarser": Grid((3.0, 0.75, 0.75), (20, 128, 128))}
STUDY = "11373_1001396"
MASKS = {
    "gland": f"anatomical_delineations/whole_gland/AI/Bosma22b/{STUDY}.nii.gz",
    "lesion": f"csPCa_lesion_delineations/human_expert/original/{STUDY}.nii.gz",
}


@pytest.fixture(scope="module", params=GRIDS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    study = make_study(grid=GRIDS[request.param])
    return make_bundle(tmp_path_factory.mktemp("bundles") / "real-grid", study, max_candidates=1)


def read_t2w(data: Path) -> sitk.Image:
    """Return the T2W as SimpleITK's own series reader has it."""
    folder = next((data / "prostatex_dicom" / "ProstateX-0000").glob("*/*t2tsetra*"))
    return sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))


def read_segment(path: Path, like: sitk.Image) -> npt.NDArray[np.bool_]:
    """Return the segment on the voxels of `like`: each frame where its own header says it lies."""
    segmentation = hd.seg.segread(path)
    found = np.zeros(like.GetSize()[::-1], dtype=bool)
    frames = np.atleast_3d(segmentation.pixel_array).reshape(-1, segmentation.Rows, segmentation.Columns)
    for frame, header in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        position = [float(each) for each in header.PlanePositionSequence[0].ImagePositionPatient]
        x, y, z = like.TransformPhysicalPointToContinuousIndex(position)
        assert (x, y) == pytest.approx((0, 0), abs=1e-2)
        assert z == pytest.approx(round(z), abs=1e-2)
        found[round(z)] |= frame > 0
    return found


@pytest.mark.data
@pytest.mark.parametrize("name", MASKS)
def test_a_mask_through_the_models_grid_comes_back_on_the_t2w(
    name: str, data_folder: Path, predict: Predict, bundle: Bundle, tmp_path: Path
) -> None:
    t2w = read_t2w(data_folder)
    mask = sitk.ReadImage(str(data_folder / "picai_labels" / MASKS[name]))
    # Laid out here from SimpleITK's reading of the files, not from ours.
    grid = Grid(bundle.record.spacing_mm, bundle.record.size)
    box = lay_box(t2w, grid, settle_center(None, t2w, grid))
    heat = resample(sitk.Cast(mask > 0, sitk.sitkFloat32), box, spline=False)

    def say_mask(image: Image) -> npt.NDArray[np.float32]:
        assert image.shape == (3, *grid.size)
        return np.where(heat >= 0.5, np.float32(0.9), np.float32(0))

    (entry,) = predict(data_folder / "prostatex_dicom", bundle, say_mask)["studies"]
    folder = tmp_path / "out" / entry["study"]
    found = read_segment(folder / "segmentation.dcm", t2w)
    on_t2w = sitk.Resample(mask, t2w, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    expected = sitk.GetArrayFromImage(on_t2w) > 0
    dice = 2 * np.count_nonzero(found & expected) / (np.count_nonzero(found) + np.count_nonzero(expected))
    assert dice > 0.85
    (candidate,) = entry["candidates"]
    voxel_ml = float(np.prod(t2w.GetSpacing())) / 1000
    assert candidate["volume_ml"] == pytest.approx(np.count_nonzero(found) * voxel_ml, abs=1e-3)
    assert found[tuple(candidate["point"])]
    for file in folder.glob("*.dcm"):
        assert pydicom.dcmread(file).PatientID == "ProstateX-0000"
        if DCIODVFY:
            check_with_dciodvfy(file)


@pytest.mark.data
def test_the_untrained_model_itself_predicts_the_real_study(
    data_folder: Path, predict: Predict, bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = predict(data_folder / "prostatex_dicom", bundle)
    (entry,) = found["studies"]
    assert entry["status"] == "warning"  # below two minima of PI-RADS, as `index` says too
    assert set(entry["files"]) >= {"heat_map.dcm", "predict.json", "preview.png", "report.dcm"}
    said = json.dumps(found) + "".join(capfd.readouterr())
    assert not re.search(r"ProstateX|1\.3\.6\.1", said)
    heat = hd.imread(tmp_path / "out" / entry["study"] / "heat_map.dcm").get_frames()
    assert 0 < heat.max() < 1
