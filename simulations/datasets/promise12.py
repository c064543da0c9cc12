"""PROMISE12 (Litjens et al. 2014): 50 training studies of four centres, T2 alone, gland delineated.

What lies where is told by `tree` below. The test cases have numbers of their own that begin at 00 again: they are not
imported. Nothing tells which centre a case comes from, nor of cancer.
"""

from collections import Counter
from pathlib import Path

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord
from prostafed.simulations.datasets.dataset import Dataset
from prostafed.simulations.datasets.study import Selection, StudyFiles, Volumes, read_images, read_masks

SEQUENCES = {"t2w": "acquired"}


def list_files(root: Path) -> tuple[StudyFiles, ...]:
    """Return the training studies; raises DataError for a missing part, or a case that lies there twice."""
    folders = [root, *sorted(each for each in root.glob("[Tt]rain*") if each.is_dir())]
    heads = [path for folder in folders for path in sorted(folder.glob("Case[0-9][0-9]*.mhd"))]
    paths = list(dict.fromkeys(path.with_name(f"{path.stem[:6]}.mhd") for path in heads))  # a mask tells of its image
    if not paths:
        raise DataError(
            f"{root}: expected CaseXX.mhd and CaseXX_segmentation.mhd in it or in training_data/, found none. Unpack "
            "training_data.zip of zenodo.org/records/8026660 there."
        )
    mistakes = [
        f"{path.parent}: expected {part.name} of {path.stem}, found no such file. Unpack training_data.zip again."
        for path in paths
        for part in (path, path.with_suffix(".raw"), _mask(path), _mask(path).with_suffix(".raw"))
        if not part.is_file() and not part.with_suffix(".zraw").is_file()
    ]
    counts = Counter(path.stem for path in paths)
    mistakes += [
        f"{root}: expected {name}.mhd once, found it in several folders." for name in counts if counts[name] > 1
    ]
    if mistakes:
        raise DataError("\n".join(mistakes))
    return tuple(
        StudyFiles(CaseRecord(path.stem, path.stem), {"t2w": path}, {"gland": _mask(path)})
        for path in sorted(paths, key=lambda path: path.stem)
    )


def _read(study: StudyFiles, selection: Selection) -> Volumes:
    images, masks = read_images(study, selection, "unpack training_data.zip again."), read_masks(study)
    if masks["gland"].GetSize() == images["t2w"].GetSize():
        masks["gland"].CopyInformation(images["t2w"])  # drawn on its voxels, whatever the second header says
    return Volumes(study.record, images, masks, SEQUENCES)


def _mask(path: Path) -> Path:
    return path.with_name(f"{path.stem}_segmentation.mhd")


DATASET = Dataset(
    name="promise12",
    title="PROMISE12",
    centers=(),
    sequences=tuple(SEQUENCES),
    labels="gland",
    licence="see LICENSE.TXT beside the files",
    size="50 training studies, one per patient, of four centres that the files do not tell apart",
    origin="doi.org/10.5281/zenodo.8026660 (training_data.zip)",
    tree="""CaseXX.mhd, CaseXX.raw                     also below training_data/ or TrainingData_PartN/
CaseXX_segmentation.mhd, CaseXX_segmentation.raw""",
    list_files=list_files,
    read=_read,
)
