"""How a phase of a round hides patients, and who the patients are: without Opacus, which takes seconds to load."""

from dataclasses import dataclass

from prostafed.client.training.feed import Feed
from prostafed.common.privacy.noise import Sources
from prostafed.common.privacy.plan import NoisePlan


@dataclass(frozen=True)
class Noise:
    """How a phase of a round hides patients.

    plan       what is sampled, clipped and added
    sources    what each step draws from
    canaries   for each made-up unit whether it takes part, drawn by lot for the whole run
    """

    plan: NoisePlan
    sources: Sources
    canaries: tuple[bool, ...] = ()


def group_patients(feed: Feed) -> list[list[int]]:
    """Return for each patient, in the order of their pseudonyms, the positions of the patient's cases in `feed`."""
    cases: dict[str, list[int]] = {}
    for position, index in enumerate(feed.chosen):
        cases.setdefault(feed.cases.records[index].patient_id, []).append(position)
    return [cases[patient] for patient in sorted(cases)]
