"""Results over the patients of all hospitals together, from the histograms each of them sent: no case is known here."""

from collections.abc import Mapping

from prostafed.common.errors import DataError
from prostafed.common.metrics.federated import BinnedEstimate, pooled_auroc, pooled_average_precision, pooled_lesion_ap
from prostafed.common.metrics.histogram_floats import HISTOGRAM_KEYS, detections_from_floats, scores_from_floats
from prostafed.common.metrics.histograms import merge_detections, merge_scores
from prostafed.server.exchange.admission import RejectedError
from prostafed.server.records.lines import AllPatientsLine

KEYS = frozenset(HISTOGRAM_KEYS)
MOST_BINNED = 10**6  # cases or candidates of a site: to pool them they are laid out one by one


def check_histograms(metrics: Mapping[str, float]) -> None:
    """Raise RejectedError where the histograms among a site's `metrics` cannot be read, or hold more than a hospital's
    cases.
    """
    try:
        scores, detections = scores_from_floats(metrics), detections_from_floats(metrics)
    except DataError as error:
        raise RejectedError("WRONG_HISTOGRAM", str(error)) from error
    for cells in (scores, detections.candidates if detections else None):
        if cells and (counted := sum(cells.positives) + sum(cells.negatives)) > MOST_BINNED:
            raise RejectedError("WRONG_HISTOGRAM", f"it counts {counted} cases, expected at most {MOST_BINNED}")


def pool(by_site: Mapping[str, Mapping[str, float]], stage: int, seed: int) -> list[AllPatientsLine]:
    """Return one row per metric that can be estimated: value, 95 % interval for other patients, and between what bounds
    the value of these patients lies for certain.

    `by_site`: a site's metrics of the test split after `stage`, without its prefix. Sites that sent no histogram are
    not among the row's sites.
    """
    scores = {site: scored for site in sorted(by_site) if (scored := scores_from_floats(by_site[site]))}
    detections = {site: found for site in sorted(by_site) if (found := detections_from_floats(by_site[site]))}
    estimates: list[tuple[str, BinnedEstimate | None, Mapping[str, object]]] = []
    if scores:
        merged = merge_scores(list(scores.values()))
        estimates.append(("auroc", pooled_auroc(merged, seed), scores))
        estimates.append(("average_precision", pooled_average_precision(merged, seed), scores))
    if detections:
        lesions = merge_detections(list(detections.values()))
        estimates.append(("lesion_ap", pooled_lesion_ap(lesions, seed), detections))
    return [
        AllPatientsLine(stage=stage, split="test", metric=metric, sites=tuple(sites), **vars(estimate))
        for metric, estimate, sites in estimates
        if estimate
    ]
