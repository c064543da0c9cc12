"""Noise and masks in a hospital's dossier."""

import math
from collections.abc import Iterator

from prostafed.client.dossier.sources import Sources
from prostafed.client.gate.ledger import BEGINS, sum_up
from prostafed.client.gate.ledger import FILE as LEDGER
from prostafed.client.gate.outbox import FILE as OUTBOX
from prostafed.common.dossier.record import Fact
from prostafed.common.dossier.words import say_masks, say_privacy
from prostafed.common.privacy.accounting import account
from prostafed.common.privacy.plan import read_plan

LEDGER_TEST, ACCOUNTING_TEST = "tests/client/gate/test_ledger.py", "tests/common/privacy/test_accounting.py"
_KINDS = ("train", "shares")
AUDIT_TEST, MASKS_TEST = "tests/common/privacy/test_audit.py", "tests/client/gate/test_masks.py"


def answer_noise(sources: Sources) -> Iterator[Fact]:
    """Yield what bounds what the weights of the run tell, and what the hospital's patients have spent in all."""
    study, source, site = sources.study, sources.approved_in, sources.site.privacy
    yield Fact("noise", "The study asks for", say_privacy(study.privacy) if study else None, source if study else "")
    known = LEDGER if sources.ledger.lines is not None else ""
    yield Fact("noise", "Epsilon accounted in this run, for any patient", _account_run(sources), known, ACCOUNTING_TEST)
    yield Fact("noise", "Epsilon audited in this run, a lower bound", _audit_run(sources), known, AUDIT_TEST)
    yield Fact("noise", "Over all studies, for the patient it cost most", _account_all(sources), known, LEDGER_TEST)
    said = f"epsilon {site.epsilon_budget:g} over all studies" if site.epsilon_budget else "none is set"
    yield Fact("noise", "Budget of this hospital, as the site file stands now", said, "the site file", LEDGER_TEST)


def answer_masks(sources: Sources) -> Iterator[Fact]:
    """Yield whether the coordinator sees an update of the site alone."""
    study, source = sources.study, sources.approved_in
    yield Fact("masks", "The study asks for", say_masks(study.privacy) if study else None, source if study else "")
    if sources.outbox.lines is None:
        yield Fact("masks", "Updates that left under masks", None, "")
        return
    left = [line for line in sources.outbox.of(sources.run) if line.get("event") == "left"]
    rounds = {kind: {(line["stage"], line["round"]) for line in left if line.get("kind") == kind} for kind in _KINDS}
    said = f"of {len(rounds['train'])} rounds {len(rounds['train'] & rounds['shares'])}"
    yield Fact("masks", "Updates that left after masks were agreed on", said, OUTBOX, MASKS_TEST)


def say_epsilon(epsilon: float) -> str:
    """Return an epsilon as a reader is told it."""
    return f"epsilon {epsilon:.3g}" if math.isfinite(epsilon) else "no bound: a round had no noise"


def _account_run(sources: Sources) -> str | None:
    """Return what all rounds of the run cost one who was in each of them; None where no ledger says."""
    begun = [line for line in sources.ledger.of(sources.run) if line.get("event") == BEGINS]
    if not begun or sources.ledger.wrong:
        return None
    if any(line["plans"] == "no noise" for line in begun):
        return say_epsilon(math.inf)
    plans = [read_plan(plan) for line in begun for plan in line["plans"].values()]
    delta = plans[0].delta
    return f"{say_epsilon(account(plans, delta))} at delta {delta:g}"


def _audit_run(sources: Sources) -> str | None:
    audited = [line for line in sources.ledger.of(sources.run) if "audited" in line]
    if not audited or sources.ledger.wrong:
        return None
    last = audited[-1]
    verdict = "" if last["holds"] else ": the noise is broken"
    return f"{say_epsilon(last['audited'])} at least, where {last['accounted']:.3g} is accounted{verdict}"


def _account_all(sources: Sources) -> str | None:
    if not sources.ledger.lines or sources.ledger.wrong:
        return None
    delta = sources.site.privacy.delta
    return f"{say_epsilon(sum_up(sources.folder, delta)[0].epsilon)} at delta {delta:g}"
