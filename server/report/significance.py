"""Whether two arms could be told apart by chance: a paired permutation test on the mean over sites."""

from collections.abc import Sequence

import numpy as np

from prostafed.common.metrics.permutation import paired_permutation_test, rank_within
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.statistic import FloatArray, Statistic
from prostafed.common.metrics.summary import statistic_of
from prostafed.common.seeding import derive_seed
from prostafed.server.records.read import RunFolder
from prostafed.server.report.results import Result

PERMUTATIONS = 2_000
RANKING = ("auroc", "average_precision", "lesion_ap", "picai_score")  # metrics that scores enter by their order alone


def permute(run: RunFolder, first: Result, second: Result) -> float | None:
    """Return the two-sided p-value of no difference between two arms' results, None where it is not defined.

    Patients' predictions are swapped between the arms, at every site at once; what is compared is the mean over the
    sites of `first`. For a metric of ranks, predictions are ranked within arm and site before.
    """
    sites = first.site.split(", ")
    arms = [_collect(run, result, sites) for result in (first, second)]
    home = {case.case_id: site for site, cases in arms[0].items() for case in cases}
    statistic = _mean_over_sites(statistic_of(first.metric), home, sites)
    flat = [[case for site in sites for case in arm[site]] for arm in arms]
    seed = derive_seed(int(run.study.get("seed", 0)), "permutation", first.stage, first.metric)
    groups = [home[case.case_id] for case in flat[0]]
    test = paired_permutation_test(flat[0], flat[1], statistic, seed, PERMUTATIONS, groups=groups)
    return test.p_value if test else None


def _collect(run: RunFolder, result: Result, sites: Sequence[str]) -> dict[str, Sequence[CasePrediction]]:
    found = {site: run.predictions[result.stage, result.arm, site] for site in sites}
    return {site: rank_within(cases) for site, cases in found.items()} if result.metric in RANKING else dict(found)


def _mean_over_sites(statistic: Statistic, home: dict[str, str], sites: Sequence[str]) -> Statistic:
    def rows(predictions: Sequence[CasePrediction], weights: FloatArray) -> FloatArray:
        places = {site: [i for i, case in enumerate(predictions) if home[case.case_id] == site] for site in sites}
        each = [statistic.rows([predictions[i] for i in chosen], weights[:, chosen]) for chosen in places.values()]
        return np.asarray(np.mean(each, axis=0), dtype=np.float64)

    return Statistic(rows)
