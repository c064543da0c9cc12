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


def describe(
    predictions: Sequence[CasePrediction], seed: int, minimum: int, *, diagnoses: bool = True, histograms: bool = False
) -> dict[str, float]:
    """Return what may be told of `predictions`, by name: "n" cases, "positives" of them, statistics with their
    intervals and, where asked for, histograms; "withheld/GROUP" -> `minimum` where a group of patients is too small.

    Without `diagnoses` nothing is told that gives away how many patients have csPCa.
    """
    small = find_small(predictions, minimum)
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
    loss: float, learnt: Sequence[CaseRecord], minimum: int, *, teaches_cspca: bool, diagnoses: bool
) -> dict[str, float]:
    """Return the mean loss over the cases `learnt`, or, of too few patients, that it is withheld; so it is where few of
    them have csPCa, or few have none, and the loss `teaches_cspca`: of a network that always says the same it counts
    them. Without `diagnoses` nothing is told that does.
    """
    counts = [len({record.patient_id for record in learnt})]
    if teaches_cspca:
        counts += count_patients(learnt, CSPCA).values()
    if is_small(counts, minimum) or (teaches_cspca and not diagnoses):
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
