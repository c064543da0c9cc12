"""Whole results of generated studies: read back by highdicom and dcmqi, judged by dciodvfy."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
import SimpleITK as sitk

from prostafed.client.predict import study as study_room
from prostafed.common.bundle.record import Bundle
from prostafed.common.imaging.cases import Grid, Image
from tests.client.ingest.tiny_study import GRID, make_study, save_study
from tests.client.predict.conftest import Predict
from tests.common.bundle.tiny_bundle import make_bundle
from tests.common.bundle.tiny_bundle import make_study as make_study_file
from tests.simulations.dicom.calibration_study import TUBE_RADIUS_MM, Calibration, write_calibration_study

DCIODVFY = shutil.which("dciodvfy")
BIN = Path(sys.executable).parent
CALIBRATION_GRID = Grid((3.0, 1.0, 1.0), (20, 96, 96))
STYLES = ("siemens", "ge", "enhanced")


def say_block(image: Image) -> npt.NDArray[np.float32]:
    """A network that finds a lesion in the same voxels of every case."""
    heat = np.zeros(image.shape[1:], dtype=np.float32)
    heat[0:2, 10:14, 6:12] = 0.75  # not in the middle: a stack upside down would be seen
    return heat


def say_nothing(image: Image) -> npt.NDArray[np.float32]:
    return np.zeros(image.shape[1:], dtype=np.float32)


def say_dark_adc(image: Image) -> npt.NDArray[np.float32]:
    """A network that finds a lesion where the ADC it is shown is that of the tube of 700; the body has 1000."""
    adc = image[1].astype(np.float32)
    dark = adc < np.median(adc) - 0.5 * (np.median(adc) - adc.min())
    return (0.8 * dark).astype(np.float32)


@pytest.fixture
def dicom(tmp_path: Path) -> Path:
    save_study(make_study(patient="Doe^Jane"), tmp_path / "dicom" / "Doe^Jane")
    return tmp_path / "dicom"


@pytest.fixture
def folder(predict: Predict, dicom: Path, bundle: Bundle, tmp_path: Path) -> Path:
    """The result of a study in which a block is found."""
    (entry,) = predict(dicom, bundle, say_block)["studies"]
    return tmp_path / "out" / str(entry["study"])


def read_segment(folder: Path, number: int = 1) -> tuple[npt.NDArray[np.bool_], sitk.Image]:
    """Return a segment as highdicom reads it, (z, y, x), and an image that says where its voxels lie (LPS)."""
    segmentation = hd.seg.segread(folder / "segmentation.dcm")
    volume = segmentation.get_volume(segment_numbers=[number])
    array = np.asarray(volume.array)[..., 0] > 0
    image = sitk.GetImageFromArray(array.astype(np.uint8))
    image.SetSpacing([float(each) for each in volume.spacing[::-1]])
    image.SetOrigin([float(each) for each in volume.position])
    image.SetDirection(np.asarray(volume.direction)[:, ::-1].ravel().tolist())
    return array, image


def read_t2w(study: dict[str, list[pydicom.Dataset]]) -> npt.NDArray[np.float64]:
    return np.stack([each.pixel_array for each in study["t2w"]])


def get_candidates(case: hd.sr.MeasurementsAndQualitativeEvaluations) -> str:
    """Return what a report says of lesion candidates."""
    (said,) = [each for each in case.get_qualitative_evaluations() if each.name.value == "candidates"]
    return str(said.value.meaning)


class TestABlock:
    def test_the_segment_lies_where_the_block_was_put(self, folder: Path) -> None:
        # The tiny study's T2W is 8 x 32 x 32 voxels of the grid's size, 6 x 24 x 24 in its middle: the block moves by
        # 1 slice and 4 pixels; its origin is at (-6.2, -6.2, 0) mm.
        _, image = read_segment(folder)
        voxels = np.argwhere(sitk.GetArrayFromImage(image) > 0)[:, ::-1]
        points = np.array([image.TransformIndexToPhysicalPoint(voxel) for voxel in voxels.tolist()])
        assert points.min(axis=0) == pytest.approx((-6.2 + 10 * 0.4, -6.2 + 14 * 0.4, 1 * 3.0), abs=1e-3)
        assert points.max(axis=0) == pytest.approx((-6.2 + 15 * 0.4, -6.2 + 17 * 0.4, 2 * 3.0), abs=1e-3)
        assert len(voxels) == 2 * 4 * 6

    def test_each_frame_refers_to_the_slice_it_lies_on(self, folder: Path, dicom: Path) -> None:
        segmentation = hd.seg.segread(folder / "segmentation.dcm")
        slices = {
            each.SOPInstanceUID: each
            for path in (dicom / "Doe^Jane" / "t2w").iterdir()
            for each in [pydicom.dcmread(path)]
        }
        for frame in segmentation.PerFrameFunctionalGroupsSequence:
            uid = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
            assert frame.PlanePositionSequence[0].ImagePositionPatient == slices[uid].ImagePositionPatient

    def test_it_is_the_patients_and_says_what_made_it(self, folder: Path, dicom: Path, bundle: Bundle) -> None:
        source = pydicom.dcmread(next((dicom / "Doe^Jane" / "t2w").iterdir()))
        names = {path.name for path in folder.iterdir()}
        assert names == {"segmentation.dcm", "heat_map.dcm", "report.dcm", "preview.png", "predict.json"}
        for name in ("segmentation.dcm", "heat_map.dcm", "report.dcm"):
            dataset = pydicom.dcmread(folder / name)
            assert (dataset.PatientID, dataset.StudyInstanceUID) == ("Doe^Jane", source.StudyInstanceUID)
            assert "research use only" in dataset.SeriesDescription
        segmentation = hd.seg.segread(folder / "segmentation.dcm")
        assert segmentation.FrameOfReferenceUID == source.FrameOfReferenceUID
        (segment,) = segmentation.SegmentSequence
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert algorithm.AlgorithmVersion == bundle.version
        assert bundle.model_sha256[:32] in algorithm.AlgorithmParameters
        assert segment.SegmentDescription.startswith("Confidence 0.750")

    def test_the_heat_map_has_the_heat_in_the_geometry_of_the_t2w(self, folder: Path) -> None:
        heat = hd.imread(folder / "heat_map.dcm")
        frames = heat.get_frames(apply_real_world_transform=True)
        assert frames.shape == (8, 32, 32)
        positions = [
            each.PlanePositionSequence[0].ImagePositionPatient[2] for each in heat.PerFrameFunctionalGroupsSequence
        ]
        by_height = frames[np.argsort(positions)]
        expected = np.zeros((8, 32, 32))
        expected[1:3, 14:18, 10:16] = 0.75
        np.testing.assert_allclose(by_height, expected, atol=1e-6)

    def test_the_report_says_score_confidence_volume_and_segment(self, folder: Path) -> None:
        report = hd.sr.srread(folder / "report.dcm")
        assert isinstance(report, hd.sr.ComprehensiveSR)
        (case,) = report.content.get_image_measurement_groups()
        (score,) = case.get_measurements()
        assert (score.name.value, score.value) == ("case-score", 0.75)
        said = get_candidates(case)
        assert said == "1 of confidence 0.10 or more"
        (lesion,) = report.content.get_volumetric_roi_measurement_groups()
        values = {each.name.meaning: (each.value, each.unit.value) for each in lesion.get_measurements()}
        assert values == {"Certainty of Finding": (75.0, "%"), "Volume": (pytest.approx(48 * 0.48 / 1000), "mL")}
        segmentation = hd.seg.segread(folder / "segmentation.dcm")
        reference = lesion.referenced_segment
        assert reference is not None
        assert reference.referenced_sop_instance_uid == segmentation.SOPInstanceUID
        assert lesion.tracking_uid == segmentation.SegmentSequence[0].TrackingUID

    def test_the_summary_agrees_with_the_files(self, folder: Path, bundle: Bundle) -> None:
        summary = json.loads((folder / "predict.json").read_text())
        (candidate,) = summary["candidates"]
        assert summary["score"] == candidate["confidence"] == pytest.approx(0.75)
        assert candidate["first"] == [1, 14, 10]
        assert candidate["last"] == [2, 17, 15]
        assert summary["model"]["model_sha256"] == bundle.model_sha256

    @pytest.mark.parametrize("name", ["segmentation.dcm", "heat_map.dcm", "report.dcm"])
    @pytest.mark.skipif(DCIODVFY is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
    def test_dciodvfy_finds_no_error(self, folder: Path, name: str) -> None:
        check_with_dciodvfy(folder / name)

    def test_dcmqi_reads_what_3d_slicer_reads(self, folder: Path, tmp_path: Path) -> None:
        """3D Slicer loads segmentations, parametric maps and TID 1500 reports through dcmqi."""
        out = tmp_path / "dcmqi"
        out.mkdir()
        call_dcmqi("segimage2itkimage", folder / "segmentation.dcm", out, "segment-")
        call_dcmqi("paramap2itkimage", folder / "heat_map.dcm", out, "heat-")
        segment = sitk.ReadImage(str(next(out.glob("segment-*.nrrd"))))
        heat = sitk.ReadImage(str(next(out.glob("heat-*.nrrd"))))
        for image in (segment, heat):
            voxels = np.argwhere(sitk.GetArrayFromImage(image) > 0.5)[:, ::-1]
            points = np.array([image.TransformIndexToPhysicalPoint(voxel) for voxel in voxels.tolist()])
            assert points.min(axis=0) == pytest.approx((-6.2 + 10 * 0.4, -6.2 + 14 * 0.4, 3.0), abs=1e-3)
            assert len(points) == 48
        report = out / "report.json"
        subprocess.run(
            [BIN / "tid1500reader", "--inputDICOM", folder / "report.dcm", "--outputMetadata", report],
            check=True,
            capture_output=True,
        )
        assert len(json.loads(report.read_text())["Measurements"]) == 2


def call_dcmqi(program: str, file: Path, out: Path, prefix: str) -> None:
    arguments = ["--inputDICOM", file, "--outputDirectory", out, "--prefix", prefix, "--outputType", "nrrd"]
    subprocess.run([BIN / program, *arguments], check=True, capture_output=True)


def check_with_dciodvfy(file: Path) -> None:
    assert DCIODVFY is not None
    said = subprocess.run([DCIODVFY, file], capture_output=True, text=True, check=False).stderr
    assert re.search(r"^(Segmentation|ParametricMap|ComprehensiveSR)$", said, flags=re.MULTILINE), said
    assert "Error" not in said, said


class TestAScan:
    """Found in the images themselves: what the network is shown must come back where it is in the patient."""

    @pytest.fixture(scope="class")
    def calibrate(self, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Calibration]:
        return lambda style: write_calibration_study(tmp_path_factory.mktemp(style), style)

    @pytest.fixture(scope="class")
    def coarse(self, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
        study = make_study_file(grid=CALIBRATION_GRID)
        return make_bundle(tmp_path_factory.mktemp("bundles") / "coarse", study, max_candidates=1)

    @pytest.mark.parametrize("style", STYLES)
    def test_a_tube_of_low_adc_is_segmented_where_it_stands(
        self, style: str, predict: Predict, calibrate: Callable[[str], Calibration], coarse: Bundle, tmp_path: Path
    ) -> None:
        scan = calibrate(style)
        (entry,) = predict(scan.folder, coarse, say_dark_adc)["studies"]
        assert entry["status"] != "refused", entry["findings"]
        folder = tmp_path / "out" / str(entry["study"])
        found, image = read_segment(folder)
        _, center = scan.tubes[0]
        axis = scan.t2w.normal  # tubes stand along it; the scan is tilted
        voxels = np.argwhere(found)[:, ::-1]
        points = np.array([image.TransformIndexToPhysicalPoint(voxel) for voxel in voxels.tolist()]) - center
        sideways = points - np.outer(points @ axis, axis)
        assert np.linalg.norm(sideways.mean(axis=0)) < 0.5
        distance = np.linalg.norm(sideways, axis=1)
        assert distance.max() < TUBE_RADIUS_MM + 2  # the diffusion images have voxels of 2 mm
        volume_mm3 = len(voxels) * np.prod(image.GetSpacing())
        length_mm = np.ptp(points @ axis) + scan.t2w.slice_mm
        assert volume_mm3 / length_mm == pytest.approx(np.pi * TUBE_RADIUS_MM**2, rel=0.15)
        if DCIODVFY:
            for name in ("segmentation.dcm", "heat_map.dcm", "report.dcm"):
                check_with_dciodvfy(folder / name)


class TestOtherAnswers:
    def test_without_a_candidate_there_is_no_segmentation_and_the_report_says_so(
        self, predict: Predict, dicom: Path, bundle: Bundle, tmp_path: Path
    ) -> None:
        (entry,) = predict(dicom, bundle, say_nothing)["studies"]
        folder = tmp_path / "out" / entry["study"]
        assert entry["files"] == ["heat_map.dcm", "predict.json", "preview.png", "report.dcm"]
        assert (entry["score"], entry["candidates"]) == (0, [])
        report = hd.sr.srread(folder / "report.dcm")
        (case,) = report.content.get_image_measurement_groups()
        said = get_candidates(case)
        assert said == "None of confidence 0.10 or more"
        assert report.content.get_volumetric_roi_measurement_groups() == []
        if DCIODVFY:
            for name in ("heat_map.dcm", "report.dcm"):
                check_with_dciodvfy(folder / name)

    @pytest.mark.parametrize(("task", "scores"), [("classify", 1), ("pirads", 4)])
    def test_a_task_of_scores_gives_a_report_alone(
        self, task: str, scores: int, predict: Predict, dicom: Path, tmp_path: Path
    ) -> None:
        other = make_bundle(tmp_path / task, make_study_file(task, GRID))
        (entry,) = predict(dicom, other)["studies"]
        assert entry["files"] == ["predict.json", "preview.png", "report.dcm"]
        assert 0 < entry["score"] < 1
        report = hd.sr.srread(tmp_path / "out" / entry["study"] / "report.dcm")
        (case,) = report.content.get_image_measurement_groups()
        assert len(case.get_measurements()) == scores
        assert case.get_measurements()[0].value == pytest.approx(entry["score"], rel=1e-5)
        if DCIODVFY:
            check_with_dciodvfy(tmp_path / "out" / entry["study"] / "report.dcm")

    def test_zones_are_segments_with_their_volumes(self, predict: Predict, dicom: Path, tmp_path: Path) -> None:
        def say_zones(image: Image) -> npt.NDArray[np.float32]:
            zones = np.zeros((2, *image.shape[1:]), dtype=np.float32)
            zones[0, 1:5, 12:20, 4:20], zones[1, 1:5, 4:12, 4:20] = 0.9, 0.8
            return zones

        other = make_bundle(tmp_path / "anatomy", make_study_file("anatomy", GRID))
        (entry,) = predict(dicom, other, say_zones)["studies"]
        assert entry["files"] == ["predict.json", "preview.png", "report.dcm", "segmentation.dcm"]
        half_ml = 4 * 8 * 16 * 0.48 / 1000
        assert entry["structures"] == [
            {"name": "pz", "volume_ml": pytest.approx(half_ml, abs=1e-3)},
            {"name": "tz", "volume_ml": pytest.approx(half_ml, abs=1e-3)},
        ]
        labels = [
            each.SegmentLabel
            for each in hd.seg.segread(tmp_path / "out" / entry["study"] / "segmentation.dcm").SegmentSequence
        ]
        assert labels == ["Peripheral zone", "Transition zone"]
        if DCIODVFY:
            check_with_dciodvfy(tmp_path / "out" / entry["study"] / "segmentation.dcm")


class TestManyStudies:
    def test_a_study_without_adc_is_refused_with_a_sentence_and_the_others_go_on(
        self, predict: Predict, dicom: Path, bundle: Bundle, tmp_path: Path
    ) -> None:
        lacking = {name: slices for name, slices in make_study("Roe^Max", 1).items() if name in ("t2w", "hbv")}
        save_study(lacking, dicom / "Roe^Max")
        found = predict(dicom, bundle, say_block)
        assert found["counts"] == {"ready": 1, "warning": 0, "refused": 1, "reused": 0}
        (refused,) = [each for each in found["studies"] if each["status"] == "refused"]
        (finding,) = [each for each in refused["findings"] if each["severity"] == "F"]
        assert finding["text"].startswith(f"NO_ADC case={refused['study']}: expected an ADC map or b-values")
        assert not (tmp_path / "out" / refused["study"]).exists()

    def test_a_sequence_that_may_be_missing_may_be_missing(self, predict: Predict, dicom: Path, tmp_path: Path) -> None:
        shutil.rmtree(dicom / "Doe^Jane" / "hbv")
        for b_value in (50, 400, 800):
            shutil.rmtree(dicom / "Doe^Jane" / f"dwi{b_value}")
        other = make_bundle(tmp_path / "tolerant", make_study_file(grid=GRID, allow_missing=["hbv"]))
        (entry,) = predict(dicom, other, say_block)["studies"]
        assert entry["status"] == "warning"
        assert "report.dcm" in entry["files"]

    def test_what_is_done_is_kept_until_study_or_model_change(
        self, predict: Predict, dicom: Path, bundle: Bundle, tmp_path: Path
    ) -> None:
        first = predict(dicom, bundle, say_block)
        again = predict(dicom, bundle, say_nothing)
        assert again["counts"]["reused"] == 1
        assert again["studies"] == json.loads(json.dumps(first["studies"]))
        next((tmp_path / "out").glob("*/report.dcm")).unlink()
        assert predict(dicom, bundle, say_block)["counts"]["reused"] == 0
        other = make_bundle(tmp_path / "other", make_study_file(grid=GRID), min_confidence=0.9)
        found = predict(dicom, other, say_block)
        assert found["counts"]["reused"] == 0
        assert found["studies"][0]["candidates"] == []
        assert not list((tmp_path / "out").glob("*/segmentation.dcm"))  # that of the first model is gone

    def test_a_failure_is_one_sentence_without_values(
        self, predict: Predict, dicom: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*arguments: object) -> None:
            raise RuntimeError("Doe^Jane in /somewhere")

        monkeypatch.setattr(study_room, "make_results", fail)
        found = predict(dicom, bundle, say_block)
        assert "Doe" not in json.dumps(found)
        (finding,) = found["studies"][0]["findings"]
        assert "stopped it (RuntimeError)" in finding["text"]
        assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "predict.json"]

    def test_a_cut_down_header_still_gives_results(self, predict: Predict, bundle: Bundle, tmp_path: Path) -> None:
        study = make_study()
        for each in study["t2w"]:
            for keyword in ("SliceThickness", "SpacingBetweenSlices", "StudyDate", "PatientName", "PatientSex"):
                delattr(each, keyword)
        save_study(study, tmp_path / "bare")
        (entry,) = predict(tmp_path / "bare", bundle, say_block)["studies"]
        assert "segmentation.dcm" in entry["files"], entry["findings"]
