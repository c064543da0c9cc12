"""From a hospital's files to the facts of its dossier. None of them names a patient, a pseudonym or a path."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from prostafed.client.dossier.keeping import (
    answer_cells,
    answer_patients,
    answer_records,
    answer_retention,
    answer_stopping,
)
from prostafed.client.dossier.privacy import answer_masks, answer_noise
from prostafed.client.dossier.sources import Sources, read_sources
from prostafed.client.gate.approval import count_used, find_end
from prostafed.client.gate.audit import FILE as AUDIT
from prostafed.client.gate.outbox import FILE as OUTBOX
from prostafed.common.dossier.record import Dossier, Fact
from prostafed.common.dossier.words import say_attacks, say_bytes, say_metrics, say_stages
from prostafed.common.errors import ApprovalError, DataError
from prostafed.common.imaging.case_folder import open_case_folder
from prostafed.common.shell.provenance import read_versions

OUTBOX_TEST, APPROVAL_TEST = "tests/client/gate/test_outbox.py", "tests/client/gate/test_approval.py"
AUDIT_TEST = "tests/client/gate/test_audit.py"


def make_dossier(site_file: Path, run: str) -> Dossier:
    """Return the dossier of a run at the site; raises ConfigurationError where the site does not know it."""
    sources = read_sources(site_file, run)
    facts = [
        *_answer_study(sources),
        *_answer_approval(sources),
        *_answer_left(sources),
        *_answer_refused(sources),
        *answer_noise(sources),
        *answer_masks(sources),
        *say_attacks(sources.attacks, f"attacks/{sources.study_hash[:12]}….json"),
        *answer_cells(sources),
        *answer_patients(sources),
        *answer_retention(sources),
        *answer_records(sources),
        *answer_stopping(sources),
    ]
    return Dossier(
        title="Privacy dossier",
        whose=f"hospital {sources.site.name}",
        run=run,
        study=sources.study.name if sources.study else "",
        study_hash=sources.study_hash,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        release=read_versions().get("prostafed", "unknown"),
        generated=_is_generated(sources),
        facts=tuple(facts),
    )


def _answer_study(sources: Sources) -> Iterator[Fact]:
    study, source = sources.study, sources.approved_in
    yield Fact("study", "Name", study.name if study else None, source if study else "")
    for label, value in say_stages(study) if study else ():
        yield Fact("study", label, value, source)
    asked = [line for line in sources.audit.of(sources.run) if line.get("event") in ("received", "answered", "refused")]
    times = sorted(str(line["time"]) for line in asked if line.get("time"))
    span = f"{_at(times[0])} to {_at(times[-1])} UTC" if times else None
    yield Fact("study", "First and last message", span, AUDIT, AUDIT_TEST)


def _answer_approval(sources: Sources) -> Iterator[Fact]:
    approval, source = sources.approval, sources.approved_in
    if approval is None:
        yield Fact("approval", "Approval", sources.approval_problem or None, source if sources.study_hash else "")
        return
    try:
        used = count_used(sources.site_file, approval)
        ending = find_end(approval, used)
        rounds = f"{used} of {approval.rounds} rounds"
        state = f"it {ending}" if ending else f"it holds until {approval.until}"
    except ApprovalError:
        rounds, state = None, "not known: the file of rounds used cannot be read"
    yield Fact("approval", "Approved by", f"{approval.by}, {_at(approval.approved_at)} UTC", source, APPROVAL_TEST)
    verified = "verified with this hospital's key when this page was made"
    yield Fact("approval", "Signature", verified, source, "tests/client/gate/test_approval.py")
    yield Fact("approval", "State", state, source, APPROVAL_TEST)
    yield Fact("approval", "Used", rounds, sources.approved_in.replace(".json", ".used.json"), APPROVAL_TEST)
    if approval.initial_digest:
        yield Fact("approval", "Starts from weights with hash", approval.initial_digest, source, APPROVAL_TEST)


def _answer_left(sources: Sources) -> Iterator[Fact]:
    lines = [line for line in sources.outbox.of(sources.run) if line.get("event") == "left"]
    if sources.outbox.lines is None:
        answered = [line for line in sources.audit.of(sources.run) if line.get("event") == "answered"]
        size = sum(int(line.get("bytes", 0)) for line in answered)
        known = sources.audit.lines is not None
        said = f"{len(answered)} answers, {say_bytes(size)} of weights" if known else None
        yield Fact("left", "Answers", said, AUDIT if known else "", AUDIT_TEST)
        yield Fact("left", "Names of tensors and metrics", None, "")
        return
    kinds = Counter(str(line.get("kind")) for line in lines)
    said = ", ".join(f"{count} to {kind}" for kind, count in sorted(kinds.items())) or "none"
    yield Fact("left", "Answers", said, OUTBOX, OUTBOX_TEST)
    size, tensors = (sum(int(line.get(name, 0)) for line in lines) for name in ("bytes", "tensors"))
    yield Fact("left", "Weights", f"{say_bytes(size)} in {tensors} tensors", OUTBOX, OUTBOX_TEST)
    groups = sorted({str(group) for line in lines for group in line.get("groups", ())})
    yield Fact("left", "Parts of the network", ", ".join(groups) or "none", OUTBOX, OUTBOX_TEST)
    metrics = say_metrics(str(name) for line in lines for name in line.get("metrics", ()))
    yield Fact("left", "Metrics, by name", metrics, OUTBOX, OUTBOX_TEST)
    told = sorted({int(line["cases"]) for line in lines if line.get("kind") == "train"})
    yield Fact("left", "Number of training cases told", ", ".join(map(str, told)) or "none", OUTBOX, OUTBOX_TEST)
    held = [line for line in sources.outbox.of(sources.run) if line.get("event") == "held"]
    numbers = {line["number"] for line in held}
    decisions = [line for line in sources.outbox.lines if line.get("of") in numbers]
    decided = Counter(str(line["event"]) for line in decisions)
    asked = "yes" if sources.site.privacy.hold else "no"
    yield Fact("left", "Each update waits for a person, as the site file stands now", asked, "the site file")
    waited = f"{len(held)} held, {decided['released']} released, {decided['declined']} declined"
    yield Fact("left", "Updates that waited for a person", waited, OUTBOX, OUTBOX_TEST)


def _answer_refused(sources: Sources) -> Iterator[Fact]:
    if sources.audit.lines is None:
        yield Fact("refused", "Refusals", None, "")
        return
    codes = Counter(str(line.get("code")) for line in sources.audit.of(sources.run) if line.get("event") == "refused")
    said = ", ".join(f"{code} {count}" for code, count in sorted(codes.items())) or "none"
    yield Fact("refused", "Refusals, by code", said, AUDIT, AUDIT_TEST)
    mine = [line for line in sources.audit.lines if line.get("study") == sources.study_hash]
    before = sum(line.get("event") == "request" for line in mine)
    yield Fact("refused", "Requests before anybody had approved the study", str(before), AUDIT, APPROVAL_TEST)


def _is_generated(sources: Sources) -> bool | None:
    try:
        return any(record.generated for record in open_case_folder(sources.site.cases).records)
    except DataError:
        return None


def _at(time: str) -> str:
    return time[:16].replace("T", " ")
