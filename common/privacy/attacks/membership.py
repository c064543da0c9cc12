"""Was a patient trained on? How well a score tells training patients from others of the same site.

The score of the attack by threshold is the case's loss under the model, negated (Yeom et al. 2018); calibrated, the
loss under a model that never saw the case, less that (Watson et al. 2022): what is hard for every model is no sign.
"""

from collections.abc import Sequence

import numpy as np

from prostafed.common.metrics.bootstrap import bootstrap_interval
from prostafed.common.metrics.diagnosis import AUROC
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.ranking import ratio, retrieved
from prostafed.common.metrics.statistic import FloatArray, Statistic, labels_and_scores
from prostafed.common.privacy.attacks.finding import Finding

FALSE_POSITIVES = 0.1  # share of others that may be taken for members
FEWEST = 2  # members, and others, without which nothing is said


def judge_scores(
    variant: str, site: str, members: Sequence[tuple[str, float]], others: Sequence[tuple[str, float]], seed: int
) -> tuple[Finding, ...]:
    """Return how well scores tell `members` from `others`, each (patient, score), larger for a member: the AUC and,
    from 1 / FALSE_POSITIVES other patients on, the share of members found while that many others are mistaken.

    Intervals are a bootstrap over patients. Where no resample ranks anybody wrongly it knows no lower end; that is then
    the probability under which so many patients would all be ranked rightly in one of twenty tries. Raises DataError
    where a score is not finite, ValueError with fewer patients than FEWEST on a side.
    """
    sides = [len({patient for patient, _ in side}) for side in (members, others)]
    if min(sides) < FEWEST:
        raise ValueError(f"Expected {FEWEST} patients or more on each side, found {sides[0]} and {sides[1]}.")
    cases = [
        CasePrediction(str(number), patient, label, score)
        for label, side in ((True, members), (False, others))
        for number, (patient, score) in enumerate(side)
    ]
    of = f"{sides[0]} members, {sides[1]} others"
    wanted = [("AUC", AUROC, 0.5)]
    if sides[1] * FALSE_POSITIVES >= 1:
        wanted.append(("true positives at 10 % false ones", FOUND, FALSE_POSITIVES))
    findings = []
    for measure, statistic, chance in wanted:
        value = statistic(cases)
        interval = bootstrap_interval(cases, statistic, seed)
        assert value is not None, "both sides have patients"
        assert interval is not None
        low, high = interval
        sure = 0.05 ** (1 / min(sides))
        low, high = (min(low, sure) if low == 1 else low), (max(high, 1 - sure) if high == 0 else high)
        findings.append(
            Finding(
                attack="membership",
                variant=variant,
                site=site,
                measure=measure,
                value=value,
                low=min(low, value),
                high=max(high, value),
                chance=chance,
                of=of,
            )
        )
    return tuple(findings)


def standardise(
    members: Sequence[tuple[str, float]], others: Sequence[tuple[str, float]]
) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Return a site's scores in standard deviations from their mean, so that those of several sites can be pooled."""
    scores = np.array([score for _, score in [*members, *others]])
    middle, width = float(scores.mean()), float(scores.std()) or 1.0
    scaled = [[(patient, (score - middle) / width) for patient, score in side] for side in (members, others)]
    return scaled[0], scaled[1]


def _found(predictions: Sequence[CasePrediction], weights: FloatArray) -> FloatArray:
    """Return the largest share of positives above a threshold that no more than FALSE_POSITIVES negatives reach."""
    labels, scores, judged = labels_and_scores(predictions, weights)
    true, false = retrieved(labels, scores, judged)
    positives, negatives = judged @ labels.astype(np.float64), judged @ (~labels).astype(np.float64)
    allowed = false <= FALSE_POSITIVES * negatives[:, None] + 1e-9
    best = np.where(allowed, true, 0.0).max(axis=1, initial=0.0)
    return ratio(best, np.where(negatives > 0, positives, 0.0))


FOUND = Statistic(_found)
