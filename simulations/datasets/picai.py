"""PI-CAI: three centres (RUMC, ZGT, PCNN), 1,500 public studies; and generated studies written in the same layout.

    root/
      images/<patient>/<patient>_<study>_{t2w,adc,hbv}.mha
      labels/ or picai_labels/ (or root itself): the picai_labels repository; masks are <patient>_<study>.nii.gz
        csPCa_lesion_delineations/human_expert/{resampled,Pooch25}    0, 2-5 (ISUP) or 0/1
        anatomical_delineations/whole_gland/AI/Bosma22b               0/1
        anatomical_delineations/zonal_pz_tz/AI/HeviAI23               1 = PZ, 2 = TZ; its grid may differ from the t2w's
      clinical_information/marksheet.csv, marksheet.csv or clinical_information*.csv, in root or in the labels folder
      reads.csv beside the marksheet, optional: case_id, lesion_id, reader_id, pirads
      GENERATED.json: says that no patient was imaged; the records' source is then "phantom"

The labels are CC BY-NC 4.0; the images (Saha et al. 2022, zenodo 6624726) carry the licence their page names.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from prostafed.common.errors import DataError, nearest
from prostafed.common.imaging.cases import MASKS, CaseRecord, Grid, Image, Masks
from prostafed.common.imaging.geometry import prepare_case
from prostafed.simulations.datasets import stop
from prostafed.simulations.datasets.marksheet import read_marksheet, read_reads

SEQUENCES = {  # provenance; the MHA files carry neither b-values nor how a map was made
    "t2w": "acquired",
    "adc": "map as distributed, b-values not in the MHA",
    "hbv": "as distributed (acquired or calculated), b-value not in the MHA",
}
_MISSING = {"t2w": "NO_T2", "adc": "NO_ADC", "hbv": "NO_HBV"}
_DELINEATIONS = {  # the first that holds the case counts
    "gland": ("anatomical_delineations/whole_gland/AI/Bosma22b",),
    "zones": ("anatomical_delineations/zonal_pz_tz/AI/HeviAI23",),
    "lesion": (
        "csPCa_lesion_delineations/human_expert/resampled",
        "csPCa_lesion_delineations/human_expert/Pooch25",  # 205 positives that have no mask in the former
    ),
}


def import_picai(
    root: Path,
    grid: Grid,
    sequences: tuple[str, ...],
    centers: tuple[str, ...] = (),
    on_error: Callable[[DataError], None] = stop,
) -> Iterator[tuple[CaseRecord, Image, Masks]]:
    """Yield record, image (sequence, z, y, x) float16 and masks (MASKS, z, y, x) uint8 of each study, by case id.

    `centers` keeps those centres only; none keeps all. Lesions are csPCa (ISUP >= 2). The record's `masks` leaves out
    what nobody delineated: an empty gland or zones, the lesion of a positive study without a lesion mask. A negative
    study needs none. Tables are checked at the call; a study that cannot be used goes to `on_error`, which raises by
    default; where it returns, the study is left out.
    """
    if unknown := [name for name in sequences if name not in SEQUENCES]:
        raise DataError(f"PI-CAI has no sequence '{unknown[0]}'{nearest(unknown[0], SEQUENCES)}")
    records, labels = list_studies(root, centers), _find_labels(root)

    def read_cases() -> Iterator[tuple[CaseRecord, Image, Masks]]:
        for record in records:
            try:
                case = _read_case(root, labels, record, grid, sequences)
            except DataError as error:
                on_error(error)
                continue
            yield case

    return read_cases()


def list_studies(root: Path, centers: tuple[str, ...] = ()) -> tuple[CaseRecord, ...]:
    """Return the studies of `centers` (none: of all), sorted by case id, from the tables alone: no image is looked at.

    Raises DataError for a missing table, a wrong cell, or a centre nobody comes from.
    """
    path = _find_marksheet(root)
    records = read_marksheet(path)
    known = {record.center for record in records}
    if unknown := [center for center in centers if center not in known]:
        raise DataError(f"{path.name}: no study of center '{unknown[0]}'{nearest(unknown[0], known)}")
    if (reads_path := path.with_name("reads.csv")).is_file():
        reads = read_reads(reads_path, [record.case_id for record in records])
        records = tuple(replace(each, pirads_reads=reads.get(each.case_id, each.pirads_reads)) for each in records)
    if (root / "GENERATED.json").is_file():
        records = tuple(replace(record, source="phantom") for record in records)
    return tuple(record for record in records if not centers or record.center in centers)


def _find_marksheet(root: Path) -> Path:
    for folder in (root, root / "labels", root / "picai_labels"):
        for pattern in ("clinical_information/marksheet.csv", "marksheet.csv", "clinical_information*.csv"):
            found = sorted(folder.glob(pattern))
            if len(found) > 1:
                names = ", ".join(path.name for path in found)
                raise DataError(f"{folder}: expected one marksheet, found {names}. Keep the one to use.")
            if found:
                return found[0]
    raise DataError(
        f"{root}: expected clinical_information/marksheet.csv, marksheet.csv or clinical_information*.csv, found none. "
        "It is in the picai_labels repository: clone that into labels/."
    )


def _find_labels(root: Path) -> Path:
    for folder in (root / "labels", root / "picai_labels", root):
        if any((folder / name).is_dir() for name in ("anatomical_delineations", "csPCa_lesion_delineations")):
            return folder
    raise DataError(
        f"{root}: expected the masks in labels/ or picai_labels/ (anatomical_delineations/, "
        "csPCa_lesion_delineations/), found neither. Clone the picai_labels repository into labels/."
    )


def _read_case(
    root: Path, labels: Path, record: CaseRecord, grid: Grid, sequences: tuple[str, ...]
) -> tuple[CaseRecord, Image, Masks]:
    case_id = record.case_id
    images = {name: _read_sequence(root, record, name) for name in dict.fromkeys(("t2w", *sequences))}
    masks = {}
    for name, folders in _DELINEATIONS.items():
        paths = [labels / folder / f"{case_id}.nii.gz" for folder in folders]
        if path := next((path for path in paths if path.is_file()), None):
            masks[name] = _read(path, case_id, f"the {name} mask")
    delineated = {name for name, mask in masks.items() if np.any(sitk.GetArrayViewFromImage(mask))}
    if record.cspca is not None and "lesion" in masks and record.cspca != ("lesion" in delineated):
        found = "YES without one" if record.cspca else "NO with a lesion"
        raise DataError(
            f"LABEL_CONFLICT case={case_id}: expected a lesion in the mask where case_csPCa is YES and none where it "
            f"is NO, found {found}; correct the marksheet or the mask."
        )
    if "lesion" in masks or record.cspca is False:  # no csPCa, no lesion: zeros are its delineation
        delineated.add("lesion")
    image, voxels = prepare_case(
        case_id, {name: images[name] for name in sequences}, masks, grid, reference=images["t2w"]
    )
    provenance = {name: "generated" if record.source == "phantom" else SEQUENCES[name] for name in sequences}
    return (
        replace(record, masks=tuple(name for name in MASKS if name in delineated), sequences=provenance),
        image,
        voxels,
    )


def _read_sequence(root: Path, record: CaseRecord, name: str) -> sitk.Image:
    path = Path("images") / record.patient_id / f"{record.case_id}_{name}.mha"
    if not (root / path).is_file():
        raise DataError(
            f"{_MISSING[name]} case={record.case_id}: expected {path}, found no such file; unpack all five folds of "
            "the images into images/, or take the study out of the marksheet."
        )
    return _read(root / path, record.case_id, name)


def _read(path: Path, case_id: str, what: str) -> sitk.Image:
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise DataError(
            f"UNREADABLE case={case_id}: expected an image in {path.name} ({what}), found a file that cannot be read; "
            "copy it again from its source."
        ) from error
