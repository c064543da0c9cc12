"""PI-CAI: three centres (RUMC, ZGT, PCNN), 1,500 public studies; and generated studies written in the same layout.

What lies where is told by `tree` below. The labels may lie in root itself; the marksheet may be
clinical_information*.csv or marksheet.csv, in root or in the labels' folder. Lesions are 0 and 2-5 (ISUP) or 0/1,
glands 0/1, zones 1 = PZ and 2 = TZ, on a grid that may differ from the t2w's. Optional are reads.csv beside the
marksheet (case_id, lesion_id, reader_id, pirads) and GENERATED.json, which says that no patient was imaged. The images
are those of Saha et al. 2022.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import GENERATED, CaseRecord
from prostafed.simulations.datasets.dataset import Dataset
from prostafed.simulations.datasets.marksheet import read_marksheet, read_reads
from prostafed.simulations.datasets.study import Selection, StudyFiles, Volumes, read_images, read_masks

SEQUENCES = {  # provenance; the MHA files carry neither b-values nor how a map was made
    "t2w": "acquired",
    "adc": "map as distributed, b-values not in the MHA",
    "hbv": "as distributed (acquired or calculated), b-value not in the MHA",
}
_DELINEATIONS = {  # the first that holds the case counts
    "gland": ("anatomical_delineations/whole_gland/AI/Bosma22b",),
    "zones": ("anatomical_delineations/zonal_pz_tz/AI/HeviAI23",),
    "lesion": (
        "csPCa_lesion_delineations/human_expert/resampled",
        "csPCa_lesion_delineations/human_expert/Pooch25",  # 205 positives that have no mask in the former
    ),
}
ID_TABLE = "additional_resources/ProstateX-mapping.json"  # ProstateX-NNNN_<date> -> <patient>_<study>
_ADVICE = "unpack all five folds of the images into images/, or take the study out of the marksheet."


def list_files(root: Path) -> tuple[StudyFiles, ...]:
    """Return where the files of each study of the marksheet belong; raises DataError as `list_studies` does."""
    records, labels = list_studies(root), _find_labels(root)
    return tuple(_locate(root, labels, record) for record in records)


def list_studies(root: Path) -> tuple[CaseRecord, ...]:
    """Return the studies, sorted by case id, from the tables alone: no image is looked at.

    Raises DataError for a missing table or a wrong cell.
    """
    path = _find_marksheet(root)
    records = read_marksheet(path)
    if (reads_path := path.with_name("reads.csv")).is_file():
        reads = read_reads(reads_path, [record.case_id for record in records])
        records = tuple(replace(each, pirads_reads=reads.get(each.case_id, each.pirads_reads)) for each in records)
    generated = (root / "GENERATED.json").is_file()
    return tuple(replace(record, source=GENERATED) for record in records) if generated else records


def _read(study: StudyFiles, selection: Selection) -> Volumes:
    sources = dict.fromkeys(SEQUENCES, "generated") if study.record.generated else SEQUENCES
    return Volumes(study.record, read_images(study, selection, _ADVICE), read_masks(study), sources)


def _read_taken_over(root: Path) -> Mapping[tuple[str, str], str]:
    """Return the patients that came from PROSTATEx, by what they are called there, as far as the labels tell it."""
    path = _find_labels(root) / ID_TABLE
    if not path.is_file():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {("prostatex", study.partition("_")[0]): taken.partition("_")[0] for study, taken in table.items()}
    except (ValueError, AttributeError) as error:
        raise DataError(
            f"{path.name}: expected ProstateX studies and their PI-CAI numbers as JSON, found something else. Copy "
            "the file again from picai_labels."
        ) from error


def _read_fold(root: Path, fold: int) -> frozenset[str]:
    """Return the case ids that the official split validates in `fold`."""
    places = [folder / "picai_splits.json" for folder in (root, root / "picai_baseline_splits", root / "labels")]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise DataError(
            f"{root}: expected picai_splits.json, which tells the folds, found none. It is in the repository "
            "github.com/DIAGNijmegen/picai_baseline: copy it into that folder."
        )
    try:
        return frozenset(json.loads(path.read_text(encoding="utf-8"))[fold]["val"])
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{path.name}: expected a list of folds with case ids under 'val', found no fold {fold}. Copy the file "
            "again from picai_baseline."
        ) from error


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
    """Return the folder of the masks, a clone of picai_labels or of its shape; raises DataError where there is none."""
    for folder in (root / "labels", root / "picai_labels", root):
        if any((folder / name).is_dir() for name in ("anatomical_delineations", "csPCa_lesion_delineations")):
            return folder
    raise DataError(
        f"{root}: expected the masks in labels/ or picai_labels/ (anatomical_delineations/, "
        "csPCa_lesion_delineations/), found neither. Clone the picai_labels repository into labels/."
    )


def _locate(root: Path, labels: Path, record: CaseRecord) -> StudyFiles:
    stem = root / "images" / record.patient_id / record.case_id
    masks = {}
    for name, folders in _DELINEATIONS.items():
        paths = [labels / folder / f"{record.case_id}.nii.gz" for folder in folders]
        if path := next((path for path in paths if path.is_file()), None):
            masks[name] = path
    images = {name: stem.with_name(f"{stem.name}_{name}.mha") for name in SEQUENCES}
    if not record.cspca or "lesion" in masks:
        return StudyFiles(record, images, masks)
    places = " or ".join(_DELINEATIONS["lesion"])
    return StudyFiles(
        record, images, masks, f"{record.case_id}.nii.gz: the lesion of a csPCa study, missing in {places}."
    )


DATASET = Dataset(
    name="picai",
    title="PI-CAI public training set",
    centers=("RUMC", "ZGT", "PCNN"),
    sequences=tuple(SEQUENCES),
    labels="csPCa lesions, ISUP, PI-RADS; gland and zones by AI",
    licence="labels CC BY-NC 4.0; images: see their page",
    size="1,500 studies of 1,476 patients",
    origin="images: zenodo.org/record/6624726 (five zip files), labels: github.com/DIAGNijmegen/picai_labels",
    tree="""images/<patient>/<patient>_<study>_{t2w,adc,hbv}.mha
labels/                                  the picai_labels repository; or picai_labels/
  clinical_information/marksheet.csv
  csPCa_lesion_delineations/human_expert/{resampled,Pooch25}/<patient>_<study>.nii.gz
  anatomical_delineations/{whole_gland/AI/Bosma22b,zonal_pz_tz/AI/HeviAI23}/<patient>_<study>.nii.gz
picai_splits.json                        optional, from picai_baseline: for `fold`""",
    list_files=list_files,
    read=_read,
    folds=5,
    read_fold=_read_fold,
    read_taken_over=_read_taken_over,
)
