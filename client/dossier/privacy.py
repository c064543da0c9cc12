"""Noise and masks in a hospital's dossier."""

from collections.abc import Iterator

from prostafed.client.dossier.sources import LEDGER, Sources
from prostafed.common.dossier.record import Fact
from prostafed.common.dossier.words import say_masks, say_privacy

STUDY_TEST = "tests/common/study/test_study.py"


def answer_noise(sources: Sources) -> Iterator[Fact]:
    """Yield what bounds what the weights of the run tell."""
    study, source = sources.study, sources.approved_in
    yield Fact("noise", "The study asks for", say_privacy(study.privacy) if study else None, source if study else "")
    accounted: str | None = None
    if study and study.privacy.unit == "none":
        accounted = "no bound: the weights left without noise"
    yield Fact("noise", "Epsilon accounted", accounted, source if accounted else "")
    yield Fact("noise", "Epsilon audited, a lower bound", None, LEDGER if sources.ledger.lines is not None else "")
    budget = sources.site.privacy.epsilon_budget
    said = f"{budget:g} over all studies, delta {sources.site.privacy.delta:g}" if budget else "no limit"
    yield Fact("noise", "Budget of this hospital, as the site file stands now", said, "the site file")


def answer_masks(sources: Sources) -> Iterator[Fact]:
    """Yield whether the coordinator sees an update of the site alone."""
    study, source = sources.study, sources.approved_in
    yield Fact("masks", "The study asks for", say_masks(study.privacy) if study else None, source if study else "")
