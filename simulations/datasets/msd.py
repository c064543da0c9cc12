"""MSD Task05_Prostate (Simpson et al. 2019, arXiv 1902.09063): 48 studies of Radboud, T2 and ADC, CC BY-SA 4.0.

What lies where is told by `tree` below; in the labels 1 = PZ, 2 = TZ. There is no high-b image and no word on cancer: a
study that uses this set allows hbv to be missing.
"""

from pathlib import Path

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord
from prostafed.simulations.datasets.dataset import Dataset
from prostafed.simulations.datasets.study import Selection, StudyFiles, Volumes, add_gland, read_masks, read_volume

SEQUENCES = {"t2w": "acquired", "adc": "map as distributed, b-values not told"}  # in the order of the 4D file


def list_files(root: Path) -> tuple[StudyFiles, ...]:
    """Return the studies of imagesTr and imagesTs; raises DataError for a missing folder or label."""
    folder = next((each for each in (root, root / "Task05_Prostate") if (each / "imagesTr").is_dir()), None)
    if folder is None:
        raise DataError(
            f"{root}: expected imagesTr/ and labelsTr/ in it or in Task05_Prostate/, found neither. Unpack "
            "Task05_Prostate.tar of medicaldecathlon.com there."
        )
    labels = {path.name: path for path in (folder / "labelsTr").glob("prostate_*.nii.gz")}
    images = [path for part in ("imagesTr", "imagesTs") for path in sorted((folder / part).glob("prostate_*.nii.gz"))]
    training = {path.name for path in images if path.parent.name == "imagesTr"}
    if lost := sorted(training ^ labels.keys()):
        raise DataError(
            "\n".join(
                f"{folder}: expected labelsTr/{name} beside imagesTr/{name}, found only one of them. Unpack "
                "Task05_Prostate.tar again."
                for name in lost
            )
        )
    if not training:
        raise DataError(
            f"{folder}: expected imagesTr/prostate_XX.nii.gz, found none. Unpack Task05_Prostate.tar there."
        )
    return tuple(
        StudyFiles(
            CaseRecord(path.name.partition(".")[0], path.name.partition(".")[0], center="RUMC"),
            dict.fromkeys(SEQUENCES, path),
            {"zones": labels[path.name]} if path.name in training else {},
        )
        for path in sorted(images, key=lambda path: path.name)
    )


def _read(study: StudyFiles, selection: Selection) -> Volumes:
    """Return both volumes; the gland is the union of the zones."""
    case_id = study.record.case_id
    both = read_volume(study.images["t2w"], case_id, "T2 and ADC")
    if both.GetDimension() != 4 or both.GetSize()[3] != len(SEQUENCES):
        raise DataError(
            f"NO_GEOMETRY case={case_id}: expected {len(SEQUENCES)} volumes, T2 and ADC, found an image of size "
            f"{both.GetSize()}; unpack Task05_Prostate.tar again."
        )
    images = {name: both[:, :, :, index] for index, name in enumerate(SEQUENCES)}
    return Volumes(study.record, images, add_gland(read_masks(study), case_id, {1: 1, 2: 2}), SEQUENCES)


DATASET = Dataset(
    name="msd",
    title="Medical Segmentation Decathlon, Task05_Prostate",
    centers=("RUMC",),
    sequences=tuple(SEQUENCES),
    labels="zones (32 of the studies)",
    licence="CC BY-SA 4.0",
    size="48 studies, one per patient: 32 with and 16 without labels",
    origin="medicaldecathlon.com (Task05_Prostate.tar)",
    tree="""imagesTr/prostate_XX.nii.gz                also below Task05_Prostate/; 4D: T2, ADC
labelsTr/prostate_XX.nii.gz
imagesTs/prostate_XX.nii.gz              optional, without labels""",
    list_files=list_files,
    read=_read,
)
