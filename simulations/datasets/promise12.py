"""PROMISE12 (Litjens et al. 2014): 50 training studies of four centres, T2 alone, gland delineated.

    root/ (or folders in it whose names begin with "train": training_data/, TrainingData_Part1/, ...)
      CaseXX.mhd, CaseXX.raw
      CaseXX_segmentation.mhd, CaseXX_segmentation.raw     1 = prostate

The test cases have numbers of their own that begin at 00 again: they are not imported. Nothing tells which centre a
case comes from, nor of cancer. The licence is in LICENSE.TXT of the download (zenodo 8026660).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord, Grid
from prostafed.simulations.datasets import stop
from prostafed.simulations.datasets.study import (
    Case,
    StudyFiles,
    Volumes,
    check_sequences,
    choose_centers,
    import_studies,
    read_images,
    read_masks,
)

SEQUENCES = {"t2w": "acquired"}


def import_promise12(
    root: Path,
    grid: Grid,
    sequences: tuple[str, ...],
    centers: tuple[str, ...] = (),
    on_error: Callable[[DataError], None] = stop,
    allow_missing: tuple[str, ...] = (),
) -> Iterator[Case]:
    """Yield record, image (sequence, z, y, x) float16 and masks (MASKS, z, y, x) uint8 of each study, by case id."""
    check_sequences("PROMISE12", SEQUENCES, sequences, allow_missing)
    studies = choose_centers(list_files(root), centers, "PROMISE12")

    def read(study: StudyFiles) -> Volumes:
        images = read_images(study, root, sequences, allow_missing, "unpack training_data.zip again.")
        masks = read_masks(study)
        if masks["gland"].GetSize() == images["t2w"].GetSize():
            masks["gland"].CopyInformation(images["t2w"])  # drawn on its voxels, whatever the second header says
        return Volumes(study.record, images, masks, SEQUENCES)

    return import_studies(studies, read, grid, sequences, on_error, allow_missing)


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
        StudyFiles(CaseRecord(path.stem, path.stem, source="promise12"), {"t2w": path}, {"gland": _mask(path)})
        for path in sorted(paths, key=lambda path: path.stem)
    )


def _mask(path: Path) -> Path:
    return path.with_name(f"{path.stem}_segmentation.mhd")
