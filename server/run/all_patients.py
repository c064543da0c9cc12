"""Results over the patients of all hospitals together, from the histograms each of them sent: no case is known here."""

from collections.abc import Mapping
from typing import Any

from prostafed.common.errors import DataError
from prostafed.common.metrics.federated import (
    BinnedEstimate,
    pooled_auroc,
    pooled_average_precision,
    pooled_lesion_ap,
)
from prostafed.common.metrics.histogram_floats import HISTOGRAM_KEYS, detections_from_floats, scores_from_floats
from prostafed.common.metrics.histograms import merge_detections, merge_scores
from prostafed.server.exchange.admission import RejectedError

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


def pool(by_site: Mapping[str, Mapping[str, float]], seed: int) -> list[dict[str, Any]]:
    """Return one row per metric that can be estimated: value, 95 % interval for other patients, and between what bounds
    the value of these patients lies for certain.

    `by_site`: a site's metrics of one split, without its prefix. Sites that sent no histogram are not among the row's
    sites.
    """
    scores = {site: scored for site in sorted(by_site) if (scored := scores_from_floats(by_site[site]))}
    detections = {site: found for site in sorted(by_site) if (found := detections_from_floats(by_site[site]))}
    rows = []
    if scores:
        merged = merge_scores(list(scores.values()))
        rows.append(_row("auroc", pooled_auroc(merged, seed), list(scores)))
        rows.append(_row("average_precision", pooled_average_precision(merged, seed), list(scores)))
    if detections:
        lesions = merge_detections(list(detections.values()))
        rows.append(_row("lesion_ap", pooled_lesion_ap(lesions, seed), list(detections)))
    return [row for row in rows if row]


def _row(metric: str, estimate: BinnedEstimate | None, sites: list[str]) -> dict[str, Any]:
    return {"metric": metric, **vars(estimate), "sites": sites} if estimate else {}
