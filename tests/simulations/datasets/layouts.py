"""The public sets in their exact layouts, made small: one phantom of 8 x 40 x 40 voxels, or generated DICOM."""

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import Grid
from prostafed.simulations.datasets import load_dataset
from prostafed.simulations.datasets.dataset import import_cases, stop
from prostafed.simulations.datasets.study import Case, Selection
from prostafed.simulations.dicom.calibration import Calibration

GRID = Grid((3.0, 1.0, 1.0), (6, 24, 24))
DICOM_GRID = Grid((3.0, 1.0, 1.0), (20, 72, 72))  # holds the calibration object's gland
SEQUENCES = ("t2w", "adc", "hbv")
SIZE = (8, 40, 40)


def load(
    name: str,
    root: Path,
    grid: Grid = GRID,
    sequences: tuple[str, ...] = SEQUENCES,
    on_error: Callable[[DataError], None] = stop,
    **options: Any,
) -> Iterator[Case]:
    """The cases of the set below `root`; `options` are those of a Selection."""
    return import_cases(load_dataset(name), Selection(root, grid, sequences, **options), on_error)


def make_masks(lesion: bool = True) -> dict[str, np.ndarray]:
    """Gland, zones (1 = PZ behind, 2 = TZ before) and a lesion in the PZ, (z, y, x) uint8: PZ the smaller."""
    z, y, x = np.meshgrid(*(np.arange(size) - (size - 1) / 2 for size in SIZE), indexing="ij")
    gland = (z / 3) ** 2 + (y / 9) ** 2 + (x / 10) ** 2 <= 1
    zones = np.where(gland, np.where(y > 3, 1, 2), 0)
    tumour = gland & (abs(z) < 1) & (y > 3) & (x > 1) & (x < 7)
    return {"gland": gland * 1, "zones": zones, "lesion": tumour * int(lesion)}


def make_images(seed: int = 0, lesion: bool = True) -> dict[str, np.ndarray]:
    """The three sequences, (z, y, x) float32, each voxel by its tissue, with noise that differs by `seed`."""
    rng, masks = np.random.default_rng(seed), make_masks(lesion)
    images = {}
    for name, (around, pz, tz, tumour) in {
        "t2w": (150, 600, 350, 200),
        "adc": (1000, 1700, 1300, 700),
        "hbv": (40, 60, 50, 110),
    }.items():
        values = np.choose(masks["zones"], (around, pz, tz)).astype(np.float32)
        values[masks["lesion"] > 0] = tumour
        images[name] = values + rng.normal(0, 0.1 * around, SIZE).astype(np.float32)
    return images


def save(path: Path, voxels: np.ndarray, step_mm: float = 3.0, first_mm: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels, isVector=False)
    image.SetSpacing((1.0, 1.0, step_mm, 1.0)[: image.GetDimension()])
    image.SetOrigin((-20.0, -30.0, first_mm, 0.0)[: image.GetDimension()])
    sitk.WriteImage(image, str(path))


def write_msd(root: Path) -> None:
    """prostate_00 and _02 with labels, _01 without; and what macOS leaves behind in tar files."""
    for number, part in ((0, "Tr"), (1, "Ts"), (2, "Tr")):
        images = make_images(number)
        name = f"prostate_{number:02d}.nii.gz"
        save(root / f"images{part}" / name, np.stack([images["t2w"], images["adc"]]))
        if part == "Tr":
            save(root / "labelsTr" / name, make_masks()["zones"].astype(np.float32))
    (root / "imagesTr" / "._prostate_00.nii.gz").write_bytes(b"macOS")


def write_promise12(root: Path) -> None:
    """Case00 and Case01 of the training part, and a Case00 of the test part, another patient."""
    for number in (0, 1):
        save(root / "training_data" / f"Case{number:02d}.mhd", make_images(number)["t2w"].astype(np.int16))
        save(root / "training_data" / f"Case{number:02d}_segmentation.mhd", make_masks()["gland"].astype(np.int8))
    save(root / "test_data" / "Case00.mhd", make_images(9)["t2w"])


def write_prostate158(root: Path) -> None:
    """020 with cancer, 024 without, 030 with cancer drawn on the T2 alone; 001 of the test part has two readers."""
    for part, table, number, cancer in (
        ("train", "train", 24, False),
        ("train", "train", 30, True),
        ("train", "valid", 20, True),
        ("test", "test", 1, True),
    ):
        folder = root / f"prostate158_{part}"
        case, masks = f"{part}/{number:03d}", make_masks()
        images = make_images(number, lesion=cancer)
        names = {"t2": images["t2w"], "adc": images["adc"], "dwi": images["hbv"]}
        names["t2_anatomy_reader1"] = (masks["zones"] > 0) * (3 - masks["zones"])  # 1 = TZ, 2 = PZ
        if cancer:
            names["t2_tumor_reader1"] = masks["lesion"] * 3
            names["adc_tumor_reader1"] = masks["lesion"]
        else:
            names["empty"] = masks["lesion"] * 0
        if number == 30:
            del names["adc_tumor_reader1"]
        if part == "test":
            names["t2_anatomy_reader2"] = names["t2_anatomy_reader1"]
            names["adc_tumor_reader2"] = masks["lesion"] * 0
        for name, voxels in names.items():
            save(folder / case / f"{name}.nii.gz", voxels.astype(np.float32))
        columns = ["ID", "t2", "adc", "dwi", "t2_anatomy_reader1", "t2_tumor_reader1", "adc_tumor_reader1"]
        columns += ["t2_anatomy_reader2", "adc_tumor_reader2"]
        cells = {name: f"{case}/{name}.nii.gz" for name in names} | {"ID": str(number)}
        if not cancer:
            cells |= dict.fromkeys(("t2_tumor_reader1", "adc_tumor_reader1"), f"{case}/empty.nii.gz")
        path = folder / f"{table}.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
            if new:
                writer.writeheader()
            writer.writerow(cells)


def write_prostatex(root: Path, study: Calibration) -> None:
    """ProstateX-0000 with csPCa, -0001 without, -0002 of the test table, -0003 of none."""
    for number in range(4):
        folder = root / "PROSTATEx" / f"ProstateX-{number:04d}" / f"07-0{number + 1}-2011-NA-MR prostaat-57952"
        shutil.copytree(study.folder, folder)
    x, y, z = study.tubes[0][1]
    lines = [  # (ProxID, fid) repeats, as in the published table
        f"ProstateX-0000,1,{x} {y} {z},PZ,TRUE",
        f"ProstateX-0000,1,{x:.2f} {y:.2f} {z + 3e-7:.7f},AS,FALSE",
        f"ProstateX-0001,1,{x} {y} {z},TZ,FALSE",
    ]
    (root / "ProstateX-Findings-Train.csv").write_text("\n".join(["ProxID,fid,pos,zone,ClinSig", *lines]) + "\n")
    (root / "ProstateX-Findings-Test.csv").write_text(f"ProxID,fid,pos,zone\nProstateX-0002,1,{x} {y} {z},PZ\n")


def write_nci_isbi(root: Path, study: Calibration) -> None:
    """A patient of each collection; ProstateDx-01-0006 has a corrected mask as well, -0055 one on other slices."""
    zones = sitk.ReadImage(str(study.masks["zones.nii.gz"]))
    wrong = sitk.Image(zones.GetSize(), sitk.sitkUInt8)
    wrong.CopyInformation(zones)
    wrong[0:3, 0:3, 0:3] = 1
    masks = {
        "Prostate3T-01-0001": {"": zones},
        "ProstateDx-01-0006": {"": wrong, "_correctedLabels": zones},
        "ProstateDx-01-0055": {"": zones[:, :, ::2]},  # every second slice: another spacing
    }
    for name, files in masks.items():
        collection = "Prostate-3T" if "3T" in name else "PROSTATE-DIAGNOSIS"
        shutil.copytree(study.folder / "0001", root / "manifest-1" / collection / name / "1.2.3" / "4.5.6")
        for suffix, mask in files.items():
            path = root / "Training" / f"{name}{suffix}.nrrd"
            path.parent.mkdir(exist_ok=True)
            sitk.WriteImage(mask, str(path))


def write_picai(root: Path) -> None:
    """1_10 without csPCa, 2_20 with, of two centres, and a split of two folds."""
    labels = root / "labels"
    for patient, case, lesion in (("1", "1_10", False), ("2", "2_20", True)):
        for name, voxels in make_images(int(patient), lesion).items():
            save(root / "images" / patient / f"{case}_{name}.mha", voxels)
        masks = make_masks(lesion)
        save(labels / "anatomical_delineations/whole_gland/AI/Bosma22b" / f"{case}.nii.gz", masks["gland"])
        save(labels / "anatomical_delineations/zonal_pz_tz/AI/HeviAI23" / f"{case}.nii.gz", masks["zones"])
        part = labels / "csPCa_lesion_delineations/human_expert/resampled"
        save(part / f"{case}.nii.gz", masks["lesion"] * 3)
    (labels / "clinical_information").mkdir()
    (labels / "clinical_information" / "marksheet.csv").write_text(
        "patient_id,study_id,case_ISUP,case_csPCa,center\n1,10,0,NO,RUMC\n2,20,3,YES,ZGT\n"
    )
    (root / "picai_splits.json").write_text(
        '[{"train": ["1_10"], "val": ["2_20"]}, {"train": ["2_20"], "val": ["1_10"]}]'
    )
