"""Membership inference on the final model, at each site and over all of them."""

from collections.abc import Iterator, Sequence

from torch import nn

from prostafed.client.attack.losses import measure_losses, negate
from prostafed.client.attack.views import measure_likeness
from prostafed.common.privacy.attacks.finding import Finding
from prostafed.common.privacy.attacks.membership import FEWEST, judge_scores, standardise
from prostafed.common.seeding import derive_seed
from prostafed.common.study import Finetune
from prostafed.common.tasks import build_task
from prostafed.simulations.attacks.federation import Attacked, AttackedSite

Scores = list[tuple[str, float]]
ENCODER = "likeness of views, the encoder alone"
OWN, FOREIGN, CALIBRATED = "loss, the site's own heads", "loss, another site's heads", "calibrated, own heads"


def infer_members(attacked: Attacked, seed: int) -> list[Finding]:
    """Return, per site and pooled, how well scores tell training from test patients: how alike the encoder finds views
    of a case; the loss under the site's own model; where heads do not travel, under that of another hospital, which has
    the shared tensors alone; and, where the run has a model that never saw the site's patients, calibrated by it.
    """
    found: list[Finding] = []
    pooled: dict[str, tuple[Scores, Scores]] = {}
    for site in attacked.sites:
        patients = [
            {site.place.cases.records[index].patient_id for index in side} for side in (site.members, site.others)
        ]
        if min(map(len, patients)) < FEWEST:
            continue
        for variant, members, others in _score(attacked, site, seed):
            key = derive_seed(seed, "membership", site.name, variant)
            found += judge_scores(variant, site.name, members, others, key)
            scaled = standardise(members, others)
            so_far = pooled.setdefault(variant, ([], []))
            for kept, side in zip(so_far, scaled, strict=True):
                kept.extend(side)
    for variant, (members, others) in pooled.items():
        found += judge_scores(variant, "", members, others, derive_seed(seed, "membership", variant))
    return found


def _score(attacked: Attacked, site: AttackedSite, seed: int) -> Iterator[tuple[str, Scores, Scores]]:
    """Yield (variant, scores of members, scores of others); of a run that ends with pretraining the encoder's alone."""
    network, feed = site.network(), site.place.feed
    if isinstance(attacked.study.stage[-1], Finetune):
        own = _measure(attacked, site, network)
        yield OWN, negate(own[0]), negate(own[1])
        if attacked.stage.share == ("encoder",) and len(attacked.sites) > 1:
            names = [each.name for each in attacked.sites]
            other = attacked.sites[(names.index(site.name) + 1) % len(names)]
            foreign = _measure(attacked, site, other.network())
            yield FOREIGN, negate(foreign[0]), negate(foreign[1])
        if (reference := attacked.reference(site)) is not None:
            without = _measure(attacked, site, reference)
            harder = [_subtract(other, mine) for other, mine in zip(without, own, strict=True)]
            yield CALIBRATED, harder[0], harder[1]
    alike = [measure_likeness(network, feed(side), derive_seed(seed, "views")) for side in (site.members, site.others)]
    yield ENCODER, alike[0], alike[1]


def _measure(attacked: Attacked, site: AttackedSite, network: nn.ModuleDict) -> tuple[Scores, Scores]:
    task, feed = build_task(attacked.stage.task), site.place.feed
    members, others = (measure_losses(network, task, feed(side)) for side in (site.members, site.others))
    return members, others


def _subtract(reference: Sequence[tuple[str, float]], mine: Sequence[tuple[str, float]]) -> Scores:
    return [(patient, other - loss) for (patient, other), (_, loss) in zip(reference, mine, strict=True)]
