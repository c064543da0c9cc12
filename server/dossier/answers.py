"""From a run folder to the facts of a coordinator's dossier."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from prostafed.common.bundle.card import say_count
from prostafed.common.dossier.record import Dossier, Fact
from prostafed.common.dossier.words import (
    say_attacks,
    say_bytes,
    say_masks,
    say_metrics,
    say_privacy,
    say_stages,
    say_withheld,
)
from prostafed.common.errors import CheckpointError
from prostafed.common.privacy.attacks.finding import FILE, read_findings
from prostafed.common.shell.chained_file import read_chained
from prostafed.common.shell.configuration import parse
from prostafed.common.shell.provenance import read_versions
from prostafed.common.study import Study
from prostafed.server.records.lines import EvaluationLine, RoundLine
from prostafed.server.records.read import RunFolder, read_run

ROUNDS, EVALUATIONS, LEDGER = "rounds.jsonl", "evaluations.jsonl", "ledger.jsonl"
WITHDRAW = "prostafed-site halt, at once; prostafed-site withdraw, from the next request on"
ADMISSION, LEDGER_TEST = "tests/server/exchange/test_admission.py", "tests/server/records/test_ledger.py"


def make_dossier(path: Path) -> Dossier:
    """Return the dossier of the run in the folder `path`; raises DataError where it holds none."""
    run = read_run(path)
    study = parse(run.study, Study, str(path / "study.json"))
    facts = [
        *_answer_study(run, study),
        Fact("approval", "Approvals, which the hospitals keep", None, ""),
        *_answer_left(run),
        *_answer_refused(run),
        *_answer_privacy(study),
        *say_attacks(read_findings(path / FILE), FILE),
        *_answer_cells(run),
        *_answer_patients(),
        *_answer_retention(run),
        *_answer_records(run),
        Fact("stopping", "By a hospital", WITHDRAW, "the program", "tests/client/gate/test_approval.py"),
    ]
    return Dossier(
        title="Privacy dossier",
        whose="coordinator",
        run=path.resolve().name,
        study=study.name,
        study_hash=run.study_hash,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        release=read_versions().get("prostafed", "unknown"),
        generated=bool(run.generated_sites),
        facts=tuple(facts),
    )


def _rounds(run: RunFolder) -> list[RoundLine]:
    return [line for line in run.rounds if line.arm == "federated"]


def _exchanges(run: RunFolder) -> list[RoundLine | EvaluationLine]:
    return [*_rounds(run), *(line for line in run.evaluations if line.arm == "federated")]


def _list_metrics(run: RunFolder) -> Iterator[tuple[str, str]]:
    """Yield (site, "split/metric") of every number that came."""
    for line in _exchanges(run):
        before = "train/" if isinstance(line, RoundLine) else ""
        for site, values in line.metrics.items():
            yield from ((site, f"{before}{name}") for name in values)


def _answer_study(run: RunFolder, study: Study) -> Iterator[Fact]:
    yield Fact("study", "Name", study.name, "study.json")
    for label, value in say_stages(study):
        yield Fact("study", label, value, "study.json")
    record = run.record
    begun, ended = (time[:16].replace("T", " ") for time in (record.started, record.finished or "not known"))
    span = f"{begun} to {ended} UTC"
    yield Fact("study", "Run", span if record.started else None, "run.json" if record.started else "")
    yield Fact("study", "State", record.state or None, "run.json" if record.state else "")
    yield Fact("study", "Hospitals", ", ".join(sorted(run.site_names)) or "none", ROUNDS)


def _answer_left(run: RunFolder) -> Iterator[Fact]:
    lines = _rounds(run)
    done = sum(line.aggregated for line in lines)
    yield Fact("left", "Rounds", f"{done} aggregated, {len(lines) - done} not", ROUNDS, LEDGER_TEST)
    replies = Counter(site for line in lines for site in line.replies)
    said = ", ".join(f"{site} {count}" for site, count in sorted(replies.items())) or "none"
    yield Fact("left", "Updates taken in, by hospital", said, ROUNDS, ADMISSION)
    up = sum(line.bytes_up for line in _exchanges(run))
    yield Fact("left", "Bytes of weights that came", say_bytes(up), f"{ROUNDS}, {EVALUATIONS}", ADMISSION)
    metrics = say_metrics(name for _, name in _list_metrics(run))
    yield Fact("left", "Metrics that came, by name", metrics, f"{ROUNDS}, {EVALUATIONS}", ADMISSION)
    counts = {site: count for line in lines for site, count in line.cases.items()}
    told = ", ".join(f"{site} {say_count(count)}" for site, count in sorted(counts.items())) or "none"
    yield Fact("left", "Training cases told, by hospital", told, ROUNDS)
    cohorts = ", ".join(sorted(run.cohorts)) or "none"
    yield Fact("left", "Hospitals that told counts of their patients", cohorts, "cohorts.json")


def _answer_refused(run: RunFolder) -> Iterator[Fact]:
    codes = Counter(
        f"{entry.get('site', '?')}: {entry.get('code', '?')}" for line in _exchanges(run) for entry in line.rejections
    )
    said = ", ".join(f"{code} {count}" for code, count in sorted(codes.items())) or "none"
    yield Fact("refused", "Refusals and rejected answers", said, f"{ROUNDS}, {EVALUATIONS}", ADMISSION)


def _answer_privacy(study: Study) -> Iterator[Fact]:
    yield Fact("noise", "The study asks for", say_privacy(study.privacy), "study.json")
    if study.privacy.unit == "none":
        yield Fact("noise", "Epsilon accounted", "no bound: the weights came without noise", "study.json")
    else:
        yield Fact("noise", "Epsilon accounted, which the hospitals keep", None, "")
    yield Fact("masks", "The study asks for", say_masks(study.privacy), "study.json")


def _answer_cells(run: RunFolder) -> Iterator[Fact]:
    said = say_withheld(f"{site}: {name}" for site, name in _list_metrics(run))
    yield Fact("cells", "Withheld by hospitals", said, f"{ROUNDS}, {EVALUATIONS}", "tests/client/gate/test_telling.py")


def _answer_patients() -> Iterator[Fact]:
    yield Fact("patients", "Patients, whom the hospitals alone count", None, "")
    yield Fact("patients", "Who object, which the hospitals keep", None, "")


def _answer_retention(run: RunFolder) -> Iterator[Fact]:
    files = [path for path in run.path.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    yield Fact("retention", "Run folder", f"{len(files)} files, {say_bytes(size)}", "the run folder")
    weights = sorted(path.name for path in files if path.suffix == ".safetensors")
    yield Fact("retention", "Weights kept", ", ".join(weights) or "none", "the run folder")


def _answer_records(run: RunFolder) -> Iterator[Fact]:
    path = run.path / LEDGER
    said: str | None = None
    if path.is_file():
        try:
            lines = read_chained(path)
            said = f"{len(lines)} lines, none changed or taken out"
        except CheckpointError:
            said = "broken: a line was changed or taken out"
    yield Fact("records", "Ledger of the run", said, LEDGER if said else "", LEDGER_TEST)
    yield Fact("records", "Rounds, evaluations, metrics", "not chained", "the run folder")
