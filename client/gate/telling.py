"""What a site tells of its predictions: counts, statistics, histograms; of few patients, only that they are few."""

from collections.abc import Callable, Mapping, Sequence

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.imaging.folds import SPLITS
from prostafed.common.metrics.cohort import CSPCA, UNKNOWN, count_patients
from prostafed.common.metrics.histogram_floats import detections_to_floats, scores_to_floats
from prostafed.common.metrics.histograms import bin_detections, bin_predictions
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.small_cells import is_small, list_tellable
from prostafed.common.metrics.summary import LESIONS, LOSS, POSITIVES, WITHHELD, N, find_small, summarise


def counts_few(records: Sequence[CaseRecord], counted: Callable[[CaseRecord], Sequence[bool]], minimum: int) -> bool:
    """Return whether one of the facts `counted` is true, or untrue, of fewer than `minimum` patients, but not of none:
    of a network that says one thing of all, a mean over them then counts these few.
    """
    groups: dict[tuple[int, bool], set[str]] = {}
    for record in records:
        for fact in enumerate(counted(record)):
            groups.setdefault(fact, set()).add(record.patient_id)
    return is_small([len(patients) for patients in groups.values()], minimum)


def describe(
    predictions: Sequence[CasePrediction],
    seed: int,
    minimum: int,
    *,
    diagnoses: bool = True,
    histograms: bool = False,
    measures: bool = True,
) -> dict[str, float]:
    """Return what may be told of `predictions`, by name: "n" cases, "positives" of them, statistics with their
    intervals and, where asked for, histograms; "withheld/GROUP" -> `minimum` where a group of patients is too small.

    Without `diagnoses` nothing is told that gives away how many patients have csPCa, without `measures` nothing of
    what the task measures of a case.
    """
    small = find_small(predictions, minimum)
    if not measures and N not in small:
        small |= {name for each in predictions for name in each.measures}
    labels = [each.label for each in predictions if each.label is not None]
    if labels and not diagnoses and N not in small:
        small |= {POSITIVES, LESIONS}  # who has a lesion has csPCa
    told = {f"{WITHHELD}/{group}": float(minimum) for group in sorted(small)}
    if N in small:
        return told
    told[N] = float(len(predictions))
    if labels and POSITIVES not in small:  # a task that does not judge csPCa counts none
        told[POSITIVES] = float(sum(labels))
    told |= summarise(predictions, seed, small)
    if histograms and POSITIVES not in small and (scores := bin_predictions(predictions, minimum)):
        told |= scores_to_floats(scores)
    if histograms and LESIONS not in small and (detections := bin_detections(predictions, minimum)):
        told |= detections_to_floats(detections)
    return told


def describe_loss(
    loss: float,
    learnt: Sequence[CaseRecord],
    counted: Callable[[CaseRecord], Sequence[bool]],
    minimum: int,
    *,
    diagnoses: bool = True,
) -> dict[str, float]:
    """Return the mean loss over the cases `learnt`, or, of too few patients, or where one of the facts `counted` is of
    too few, that it is withheld; so it is without `diagnoses`.
    """
    patients = len({record.patient_id for record in learnt})
    if not diagnoses or is_small([patients], minimum) or counts_few(learnt, counted, minimum):
        return {f"{WITHHELD}/{LOSS}": float(minimum)}
    return {LOSS: loss}


def list_told_splits(
    records: Sequence[CaseRecord],
    splits: Mapping[str, Sequence[int]],
    judges: Callable[[CaseRecord], bool],
    minimum: int,
) -> frozenset[str]:
    """Return the splits of whose diagnoses a site may tell that tells how many of all its patients, `records`, have
    csPCa: those whom a task `judges` in them, taken away from all, leave no few patients behind. The test split comes
    first. `splits` holds indices of `records`.
    """
    parts = {}
    for split in reversed(SPLITS):
        judged = [records[index] for index in splits[split] if judges(records[index])]
        counts = count_patients(judged, CSPCA)
        parts[split] = {value: counts[value] for value in counts if value != UNKNOWN}
    return list_tellable(parts, count_patients(records, CSPCA), minimum)
