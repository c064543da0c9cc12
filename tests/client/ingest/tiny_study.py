"""A whole biparametric study as DICOM, small enough for hundreds of tests: 32 x 32 pixels, 8 slices, known ADC."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from prostafed.common.imaging.cases import Grid

SLICES, PIXELS, SLICE_MM, PIXEL_MM = 8, 32, 3.0, 0.4
GRID = Grid((3.0, 0.4, 0.4), (6, 24, 24))  # what the tests index to
B_VALUES = (50, 400, 800)
Study = dict[str, list[Dataset]]  # series -> slices, ascending; the keys are t2w, adc, dwi<b>, hbv


def make_study(patient: str = "P1", seed: int = 0, high_b: int = 1400) -> Study:
    """Return a T2W, an ADC map, a DWI series of three b-values and an acquired high b; one patient, one study."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (SLICES, PIXELS, PIXELS)), indexing="ij")
    inside = z**2 + y**2 + x**2 < 0.8
    adc = np.where(inside, 1400.0, 900.0) + 200 * np.sin(5 * x + seed) * np.cos(4 * y)
    s0 = np.where(inside, 900.0, 500.0) + 100 * np.cos(6 * y)
    t2w = np.where(inside, 400.0, 150.0) + 80 * np.sin(7 * x) + rng.normal(0, 5, z.shape)
    study, study_uid, frame_uid = Study(), generate_uid(), generate_uid()
    numbers = iter(range(1, 9))

    def add(name: str, volume: npt.NDArray[np.float64], series_uid: str, number: int, **values: object) -> None:
        study[name] = []
        for index, pixels in enumerate(volume):
            dataset = _make_slice(patient, pixels, index)
            dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = study_uid, frame_uid
            dataset.SeriesInstanceUID, dataset.SeriesNumber = series_uid, number
            for keyword, value in values.items():
                setattr(dataset, keyword, value)
            study[name].append(dataset)

    spin_echo = {"EchoTime": 104, "RepetitionTime": 5000, "SeriesDescription": "t2_tse_tra", "ScanningSequence": "SE"}
    add("t2w", t2w, generate_uid(), next(numbers), ImageType=["ORIGINAL", "PRIMARY", "M", "ND"], **spin_echo)
    planar = {"EchoTime": 63, "RepetitionTime": 3300, "ScanningSequence": "EP"}
    kind = ["ORIGINAL", "PRIMARY", "DIFFUSION", "TRACEW", "ND"]
    diffusion, number = generate_uid(), next(numbers)
    for b_value in B_VALUES:
        signal = s0 * np.exp(-b_value * adc * 1e-6)
        named = {"SeriesDescription": "ep2d_diff_tra", "DiffusionBValue": float(b_value)}
        add(f"dwi{b_value}", signal, diffusion, number, ImageType=kind, **named, **planar)
    kind = ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"]
    add("adc", adc, generate_uid(), next(numbers), ImageType=kind, SeriesDescription="ep2d_diff_tra_ADC", **planar)
    named = {"SeriesDescription": "ep2d_diff_tra_b1400", "DiffusionBValue": float(high_b)}
    kind = ["ORIGINAL", "PRIMARY", "DIFFUSION", "TRACEW", "ND"]
    signal = s0 * np.exp(-high_b * adc * 1e-6)
    add("hbv", signal, generate_uid(), next(numbers), ImageType=kind, **named, **planar)
    return study


def save_study(study: Mapping[str, list[Dataset]], folder: Path) -> list[Path]:
    """Write series/NNN.dcm below `folder` and return the files."""
    written = []
    for name, datasets in study.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, dataset in enumerate(datasets):
            path = folder / name / f"{number:03d}.dcm"
            dataset.save_as(path, enforce_file_format=True)
            written.append(path)
    return written


def _make_slice(patient: str, pixels: npt.NDArray[np.float64], index: int) -> Dataset:
    uid = generate_uid()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    half = (PIXELS - 1) / 2 * PIXEL_MM
    for keyword, value in {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": uid,
        "Modality": "MR",
        "Manufacturer": "SIEMENS",
        "PatientID": patient,
        "PatientName": "GENERATED^Tiny",
        "PatientSex": "M",
        "PatientAge": "065Y",
        "StudyDate": "20260102",
        "InstanceNumber": index + 1,
        "ImagePositionPatient": [-half, -half, index * SLICE_MM],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [PIXEL_MM, PIXEL_MM],
        "SliceThickness": SLICE_MM,
        "SpacingBetweenSlices": SLICE_MM,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": PIXELS,
        "Columns": PIXELS,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": np.clip(np.round(pixels), 0, 65535).astype("<u2").tobytes(),
    }.items():
        setattr(dataset, keyword, value)
    return dataset
