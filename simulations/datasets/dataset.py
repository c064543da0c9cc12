"""A public set as a value: its facts, how its files are listed and read; and the one loop that imports any of them."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Never

from prostafed.common.errors import ConfigurationError, DataError, nearest
from prostafed.simulations.datasets.study import MISSING, Case, Selection, StudyFiles, Volumes, make_case

FACTS = ("title", "centers", "sequences", "labels", "licence", "size", "origin", "tree")


@dataclass(frozen=True)
class Dataset:
    """An entry of the table: what a person must know to get the set and unpack it, and how it is read.

    Nothing is stated here that its publishers do not say: where a licence is not certain, its page is named instead.
    Raises ConfigurationError where a fact is missing.
    """

    name: str  # in the table; the `source` of a federation file, and of its records
    title: str
    centers: tuple[str, ...]  # that `center` of a federation file can choose; empty: the set does not tell them
    sequences: tuple[str, ...]
    labels: str
    licence: str
    size: str
    origin: str
    tree: str  # what belongs below root
    # (root) -> the studies: tables are read, images are not; raises DataError, a line per part that is missing or wrong
    list_files: Callable[[Path], tuple[StudyFiles, ...]]
    # (study, selection) -> its t2w, the sequences asked for as far as it has them, its masks; raises DataError
    read: Callable[[StudyFiles, Selection], Volumes]
    folds: int = 0  # of the official split; 0: there is none
    read_fold: Callable[[Path, int], Collection[str]] | None = (
        None  # (root, fold) -> case ids it validates in that fold
    )
    # (root) -> patients it took over from other sets: (name of that set, patient) -> what he is called here
    read_taken_over: Callable[[Path], Mapping[tuple[str, str], str]] | None = None

    def __post_init__(self) -> None:
        lacking = [name for name in ("name", *FACTS) if name != "centers" and not getattr(self, name)]
        if lacking:
            raise ConfigurationError(
                f"dataset '{self.name}': expected its {lacking[0]}, found none. Write it into the entry."
            )
        if self.sequences[0] != "t2w" or not set(self.sequences) <= set(MISSING):
            raise ConfigurationError(
                f"dataset '{self.name}': expected the sequences t2w and, where it has them, adc and hbv, found "
                f"{', '.join(self.sequences)}. Correct the entry."
            )

    def facts(self) -> dict[str, Any]:
        """Return what there is to know of the set before one has it, by name."""
        return {name: getattr(self, name) for name in FACTS}


def stop(error: DataError) -> Never:
    """Raise the error of a study: the default `on_error`."""
    raise error


def import_cases(
    dataset: Dataset, selection: Selection, on_error: Callable[[DataError], None] = stop
) -> Iterator[Case]:
    """Yield record, image (sequence, z, y, x) float16 and masks (MASKS, z, y, x) uint8 of each study, by case id.

    A sequence of `allow_missing` that a study lacks is a channel of zeros, and not in the record's `sequences`. Nothing
    is downloaded. A mistake in a table raises DataError at the call, and so does a sequence that the set does not have
    and may not lack, or a centre nobody comes from. One study that cannot be used goes to `on_error`: what that raises
    ends the import, and if it returns the study is left out.
    """
    _check_sequences(dataset, selection)
    return _import(dataset, _choose(dataset, selection), selection, on_error)


def list_studies(dataset: Dataset, root: Path) -> tuple[StudyFiles, ...]:
    """Return all studies below `root` by case id, with their source; raises DataError where they do not fit the set."""
    try:
        studies = sorted(dataset.list_files(root), key=lambda study: study.record.case_id)
        if not studies:
            raise ValueError("no study")
    except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise DataError(
            f"{root}: expected {dataset.title}, found files that cannot be listed ({type(error).__name__}: {error}). "
            f"Compare them with `prostafed-sim datasets {dataset.name}`."
        ) from error
    for study, following in zip(studies, [*studies[1:], None], strict=True):
        record = study.record
        if following is not None and record.case_id == following.record.case_id:
            raise DataError(f"{root}: expected every study once, found {record.case_id} again. Keep one.")
        if record.center and record.center not in dataset.centers:
            raise DataError(
                f"{root}: expected studies of {', '.join(dataset.centers) or 'no named center'} in {dataset.title}, "
                f"found {record.case_id} of '{record.center}'. Correct its table."
            )
    return tuple(
        replace(study, record=replace(study.record, source=study.record.source or dataset.name)) for study in studies
    )


def _check_sequences(dataset: Dataset, selection: Selection) -> None:
    has, title = dataset.sequences, dataset.title
    absent = [name for name in selection.sequences if name not in (*has, *selection.allow_missing)]
    if absent and absent[0] not in MISSING:
        raise DataError(f"{title} has no sequence '{absent[0]}'{nearest(absent[0], has)}")
    if absent:
        names = ", ".join(f'"{name}"' for name in selection.sequences if name not in has)
        raise DataError(
            f"{title} has no {' and no '.join(absent)}: it has {', '.join(has)} only. Let the study do without, "
            f"allow_missing = [{names}] in its [data], or take the site out of the federation."
        )


def _choose(dataset: Dataset, selection: Selection) -> tuple[StudyFiles, ...]:
    """Return the studies of the centres and the fold that are asked for."""
    studies, centers = list_studies(dataset, selection.root), selection.centers
    known = {study.record.center for study in studies if study.record.center}
    if unknown := [center for center in centers if center not in known]:
        raise DataError(f"{dataset.title}: no study of center '{unknown[0]}'{nearest(unknown[0], known)}")
    kept = [study for study in studies if not centers or study.record.center in centers]
    if selection.fold is None or dataset.read_fold is None:
        return tuple(kept)
    chosen = dataset.read_fold(selection.root, selection.fold)
    return tuple(study for study in kept if study.record.case_id in chosen)


def _import(
    dataset: Dataset, studies: tuple[StudyFiles, ...], selection: Selection, on_error: Callable[[DataError], None]
) -> Iterator[Case]:
    for study in studies:
        try:
            case = make_case(dataset.read(study, selection), selection)
        except DataError as error:
            on_error(error)
            continue
        yield case
