"""Noise and masks in a hospital's dossier."""

import math
from collections.abc import Iterator

from prostafed.client.dossier.sources import Sources
from prostafed.client.gate.ledger import FILE as LEDGER
from prostafed.client.gate.ledger import find_audit, say_audit, sum_up
from prostafed.client.gate.outbox import FILE as OUTBOX
from prostafed.common.dossier.record import Fact
from prostafed.common.dossier.words import say_masks, say_privacy

LEDGER_TEST, AUDIT_TEST = "tests/client/gate/test_ledger.py", "tests/common/privacy/test_audit.py"
MASKS_TEST = "tests/client/gate/test_masks.py"
NO_BOUND = "no bound: the weights left without noise"
MOST_COHORTS = 5  # that are listed, the dearest


def answer_noise(sources: Sources) -> Iterator[Fact]:
    """Yield what bounds what the weights of the run tell."""
    study, source = sources.study, sources.approved_in
    yield Fact("noise", "The study asks for", say_privacy(study.privacy) if study else None, source if study else "")
    delta = study.privacy.delta if study else sources.site.privacy.delta
    readable = sources.ledger.lines is not None and not sources.ledger.wrong
    if readable and sources.ledger.of(sources.run):
        yield from _answer_epsilon(sources, "Epsilon accounted", delta, sources.run)
        yield Fact("noise", "Epsilon audited, a lower bound", _say_audit(sources), LEDGER, AUDIT_TEST)
    else:
        without = study is not None and study.privacy.unit == "none"
        yield Fact("noise", "Epsilon accounted", NO_BOUND if without else None, source if without else "")
        yield Fact("noise", "Epsilon audited, a lower bound", None, "")
    if readable:
        yield from _answer_epsilon(sources, "Over all studies here", sources.site.privacy.delta)
    budget = sources.site.privacy.epsilon_budget
    said = f"{budget:g} over all studies, delta {sources.site.privacy.delta:g}" if budget else "no limit"
    yield Fact("noise", "Budget of this hospital, as the site file stands now", said, "the site file")


def answer_masks(sources: Sources) -> Iterator[Fact]:
    """Yield whether the coordinator sees an update of the site alone."""
    study, source = sources.study, sources.approved_in
    yield Fact("masks", "The study asks for", say_masks(study.privacy) if study else None, source if study else "")
    if sources.outbox.lines is None:
        yield Fact("masks", "Updates that left under masks", None, "")
        return
    left = [line for line in sources.outbox.of(sources.run) if line.get("event") == "left"]
    sent, agreed = (
        {(line["stage"], line["round"]) for line in left if line.get("kind") == kind} for kind in ("train", "shares")
    )
    said = f"{len(sent & agreed)} of {len(sent)} rounds"
    yield Fact("masks", "Updates that left after masks were agreed on", said, OUTBOX, MASKS_TEST)


def _answer_epsilon(sources: Sources, label: str, delta: float, run: str = "") -> Iterator[Fact]:
    """Yield the epsilon that patients with the same history have cost, by the ledger, the dearest first. How many they
    are is told where they are no small cell.
    """
    fewest = sources.site.minimum_cell
    spent = [each for each in sum_up(sources.folder, delta, run) if each.rounds]
    for each in spent[:MOST_COHORTS]:
        count = len(each.patients)
        whose = f"{count}" if count >= fewest else f"fewer than {fewest}"
        said = f"{each.epsilon:.3g} at delta {delta:g}" if math.isfinite(each.epsilon) else NO_BOUND
        rounds = f"{each.rounds} {'round' if each.rounds == 1 else 'rounds'} of training"
        yield Fact("noise", f"{label}, {whose} patients", f"{said}; {rounds}", LEDGER, LEDGER_TEST)
    if (more := len(spent) - MOST_COHORTS) > 0:
        yield Fact("noise", f"{label}, others", f"no more than these, in {more} more cohorts", LEDGER, LEDGER_TEST)


def _say_audit(sources: Sources) -> str:
    return say_audit(find_audit(sources.ledger.lines or (), sources.run))
