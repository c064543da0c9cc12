"""Attacks on what the sites told of their test patients."""

from prostafed.common.metrics.histogram_floats import scores_from_floats
from prostafed.common.privacy.attacks.answers import read_cells, subtract_answers
from prostafed.common.privacy.attacks.finding import Finding
from prostafed.simulations.attacks.federation import Attacked


def subtract_sites(attacked: Attacked, seed: int) -> list[Finding]:
    """Return, per site, how often the test case is named that two answers differ in: from the Brier score, or, of a
    task without scores of csPCa, the mean of its first measure.
    """
    found = []
    for site in attacked.sites:
        cases = attacked.run.predictions.get((len(attacked.study.stage), "federated", site.name), ())
        values = [(each.score - each.label) ** 2 for each in cases if each.score is not None and each.label is not None]
        if not values:
            measures = sorted({name for each in cases for name in each.measures})
            values = [each.measures[measures[0]] for each in cases if measures and measures[0] in each.measures]
        if len(values) >= 2:
            found.append(subtract_answers(site.name, values))
    return found


def read_histograms(attacked: Attacked, seed: int) -> list[Finding]:
    """Return, per site, what follows from the histogram that it told after the last stage."""
    told: dict[str, dict[str, float]] = {}
    for line in attacked.run.evaluations:
        if line.arm == "federated" and line.stage == len(attacked.study.stage) and "test" in line.splits:
            told |= {
                site: {name.removeprefix("test/"): value for name, value in values.items() if name.startswith("test/")}
                for site, values in line.metrics.items()
            }
    read = [
        read_cells(site, histogram)
        for site, metrics in sorted(told.items())
        if (histogram := scores_from_floats(metrics)) is not None
    ]
    return [each for each in read if each is not None]
