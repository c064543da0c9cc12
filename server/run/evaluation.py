"""What the sites make of the global tensors on their own cases: they compute, and only aggregates come back.

The model of a round is checkpointed before it is evaluated. Each exchange is a line of evaluations.jsonl, with who was
asked, who answered what, and why others did not; results are made of these lines. So a run that is taken up again asks
for the evaluation that is missing alone, and of it those who have not answered.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict

from prostafed.common.errors import RoundError
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.shell.progress import Said, tell
from prostafed.common.study import Finetune, Pretrain
from prostafed.server.records.ledger import Entry
from prostafed.server.records.lines import EvaluationLine
from prostafed.server.records.read import list_missing
from prostafed.server.run.all_patients import check_histograms
from prostafed.server.run.metric_rows import of_split
from prostafed.server.run.run import OpenRun

NOT_THERE = "NOT_THERE"  # it took part in the stage and is not connected now


def list_splits(stage: Pretrain | Finetune, number: int) -> tuple[str, ...]:
    """Return the splits that are evaluated after a round of `stage`: the test split after its last one only."""
    if isinstance(stage, Pretrain):
        return ()
    if number == stage.rounds:
        return ("validation", "test")
    return () if number % stage.evaluate_every else ("validation",)


def evaluate_round(run: OpenRun, stage: int, number: int) -> None:
    """Evaluate the model of a round where the study says so, as often as it takes.

    A stage's last evaluation asks every site that took part in the stage, waits for all of them, and asks those it
    lacks again, `retries` times; others ask who is there, and below the quorum follow `below_quorum`. Raises RoundError
    where it stays below the quorum.
    """
    splits, section = list_splits(run.study.stage[stage - 1], number), run.study.round
    if not splits:
        return
    last = "test" in splits
    tries = 1 + (section.retries if last or section.below_quorum == "retry" else 0)
    for attempt in range(1, tries + 1):
        asked = _list_missing(run, stage, number, last)
        if not asked or (not last and _has_quorum(run, stage, number)):
            break
        if attempt > 1:
            run.note_arrivals(stage, number)
        run.add_evaluation(_ask(run, stage, number, splits, asked))
    _conclude(run, stage, number, last, tries)


def _list_missing(run: OpenRun, stage: int, number: int, last: bool) -> list[str]:
    """Return who is to be asked: all at first, then those of them who have not answered."""
    wanted = {site for line in run.lines(stage, number) for site in line.participants}
    if last and not wanted:
        wanted = {site for row in run.rounds if row.stage == stage for site in row.replies}
    if not _has_quorum(run, stage, number):
        wanted |= set(run.there)  # who came in the meantime is welcome
    return sorted(wanted - set(run.answers(stage, number)))


def _has_quorum(run: OpenRun, stage: int, number: int) -> bool:
    return len(run.answers(stage, number)) >= run.study.round.quorum


def _ask(run: OpenRun, stage: int, number: int, splits: tuple[str, ...], asked: Sequence[str]) -> EvaluationLine:
    """Ask once and return the line that says what came of it. The request is the same each time, so that a site gives
    the answer it gave before.
    """
    started, study, last = time.monotonic(), run.study, "test" in splits
    answers: dict[str, dict[str, float]] = {}

    def on_reply(site: str, reply: Reply) -> None:
        found = {name: value for name, value in reply.metrics.items() if name.partition("/")[0] in splits}
        check_histograms(of_split(found, "test"))
        answers[site] = found

    request = Request("evaluate", run.name, study.hash(), stage, number, run.state.tensors, splits)
    there = [site for site in asked if site in run.there]
    exchange = run.sites.ask(request, there, on_reply, 0 if last else study.round.close_after)
    exchange.rejections += [
        {"site": site, "code": NOT_THERE, "text": "not connected"} for site in asked if site not in there
    ]
    return EvaluationLine(
        stage=stage,
        round=number,
        attempt=len(run.lines(stage, number)) + 1,
        splits=splits,
        last=last,
        participants=tuple(asked),
        **asdict(exchange),
        metrics={site: answers[site] for site in sorted(answers)},
        seconds=round(time.monotonic() - started, 3),
        study_hash=study.hash(),
    )


def _conclude(run: OpenRun, stage: int, number: int, last: bool, tries: int) -> None:
    """Say who is missing; raise RoundError below the quorum."""
    missing = list_missing(run.lines(stage, number)).values()
    reasons = {entry["site"]: f"{entry['code']} ({entry['text']})" for entry in missing}
    for site, reason in sorted(reasons.items()) if last else ():
        run.ledger.add(Entry("missing", stage, number, site, reason))
        tell(Said(site, f"is missing from the last evaluation of stage {stage}: {reason}"))
    if _has_quorum(run, stage, number):
        return
    said = "; ".join(f"{site}: {reason}" for site, reason in sorted(reasons.items())) or "nobody is there"
    text = f"{len(run.answers(stage, number))} usable replies, quorum {run.study.round.quorum}: {said}"
    run.ledger.add(Entry("not-evaluated", stage, number, text=text))
    raise RoundError(
        f"The evaluation after round {number} of stage {stage} had {text}"
        f"{f', in {tries} tries' if tries > 1 else ''}. Mend that and resume the run: its rounds are kept."
    )
