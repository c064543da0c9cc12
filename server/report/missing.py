"""Who a run went on without: since which round, how many of its cases, and what the result was measured on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prostafed.common.metrics.summary import WITHHELD, N
from prostafed.server.exchange.exchange import NOT_NEEDED
from prostafed.server.records.lines import EvaluationLine, RoundLine
from prostafed.server.records.read import RunFolder, list_missing

AWAY = {"code": "NOT_THERE", "text": "not connected"}
UNKNOWN = "its number of test cases is not known"
TITLE = "Not everybody took part to the end"


@dataclass(frozen=True)
class Missing:
    """A site that did not take part to the end; None = not known."""

    site: str
    code: str
    why: str
    stage: int = 0  # of the first round since which nothing was learnt from it; 0 where it took part in all
    round: int = 0
    took_part: bool = True  # in any round
    training_cases: int | None = None  # it told of so many
    measured: bool = True  # whether the last result counts its test cases
    test_cases: int | None = None


def find_missing(run: RunFolder) -> list[Missing]:
    """Return the sites of the federated arm that were lost or turned away and did not come back, that did not answer
    the last evaluation, or that never took part though they were expected.
    """
    rounds = [line for line in run.rounds if line.arm == "federated" and line.aggregated]
    last = _last_evaluation(run)
    silent = {site: each for (_, _, site), each in list_missing(last).items()}
    answered = {site for line in last for site in line.replies}
    found = []
    for site in list_expected(run):
        end, why = _find_end(run, rounds, site)
        if end is None and site not in silent:
            continue
        why = why or silent[site]
        found.append(
            Missing(
                site,
                why.get("code", ""),
                why.get("text", "").partition(";")[0],
                end.stage if end else 0,
                end.round if end else 0,
                any(site in line.replies for line in rounds),
                next((line.cases[site] for line in reversed(rounds) if site in line.cases), None),
                site in answered or not last,
                _count_tested(run, site),
            )
        )
    return [*found, *_list_absent(run, rounds)]


def list_expected(run: RunFolder) -> list[str]:
    """Return the sites of a simulation in their order, of a real federation who was asked for an update, sorted."""
    asked = {site for line in run.rounds if line.arm == "federated" for site in line.participants}
    return [site.name for site in run.sites] or sorted(asked)


def say_ending(run: RunFolder) -> str:
    """Return the sentence a finished run ends with: who is missing, and on whom the result was measured; of a run that
    has not come to its end and lacks nobody, nothing.
    """
    missing, sites = find_missing(run), list_expected(run)
    if missing:
        return f"{TITLE}. {say_missing(run, missing)}"
    if run.record.state != "finished" or not run.rounds:
        return ""
    return f"Every site took part to the end: {join(sites)}."


def say_missing(run: RunFolder, missing: Sequence[Missing]) -> str:
    """Return, in words, who is missing since when, and on what the result was measured."""
    return " ".join([*map(_say_one, missing), *_say_measured(run, [each for each in missing if not each.measured])])


def join(names: Sequence[str]) -> str:
    """Return "north, south and west"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _last_evaluation(run: RunFolder) -> list[EvaluationLine]:
    lines = [line for line in run.evaluations if line.last and line.arm == "federated"]
    return [line for line in lines if line.stage == lines[-1].stage]


def _find_end(run: RunFolder, rounds: Sequence[RoundLine], site: str) -> tuple[RoundLine | None, Mapping[str, str]]:
    """Return the first round since which nothing came from `site`, and why, up to the end; None where it was there."""
    drawn = run.study.get("round", {}).get("participants", "all") != "all"
    moves = [line for line in run.ledger if line.site == site and line.event in ("joined", "left")]
    gone = (moves[-1].stage, moves[-1].round) if moves and moves[-1].event == "left" else None
    end: RoundLine | None = None
    why: Mapping[str, str] = {}
    for line in rounds:
        refusal = next((entry for entry in line.rejections if entry.get("site") == site), None)
        if site in line.replies or (refusal and refusal.get("code") == NOT_NEEDED):
            end, why = None, {}
        elif refusal or (not drawn and site not in line.participants) or (gone and (line.stage, line.round) >= gone):
            end, why = end or line, refusal or why or AWAY
    return end, why


def _list_absent(run: RunFolder, rounds: Sequence[RoundLine]) -> list[Missing]:
    """Return those who were expected and never asked for an update: by name where they were refused, else counted."""
    asked = {site for line in rounds for site in line.participants}
    if run.sites or run.study.get("round", {}).get("participants", "all") != "all":
        return []  # a simulation's are among its sites; and who was not drawn lacks nothing
    refused = {line.site: line.text for line in run.ledger if line.event == "refused" and line.site not in asked}
    named = [(site, text.partition(" ")[0], text) for site, text in sorted(refused.items())]
    unnamed = [("one that never connected", AWAY["code"], AWAY["text"])] * run.record.sites_expected
    absent = [*named, *unnamed][: max(0, run.record.sites_expected - len(asked))]
    return [Missing(*each, took_part=False) for each in absent]


def _say_one(missing: Missing) -> str:
    site, why = missing.site, f" ({missing.why})" if missing.why else ""
    if not missing.took_part:
        return f"{site} never took part{why}: nothing was learnt from it."
    if not missing.stage:
        return f"{site} did not answer the last evaluation{why}."
    cases = "its" if missing.training_cases is None else f"its {missing.training_cases}"
    return (
        f"{site} is missing from round {missing.round} of stage {missing.stage} on{why}: "
        f"nothing was learnt from {cases} training cases since then."
    )


def _say_measured(run: RunFolder, missing: Sequence[Missing]) -> list[str]:
    """Return the sentence that says on how many test cases, and whose, the last result was measured."""
    sites = sorted({site for line in _last_evaluation(run) for site in line.replies})
    if not sites:
        return []
    counts = [_count_tested(run, site) for site in sites]
    known, lacking = [count or 0 for count in counts], [each.test_cases for each in missing]
    number = "" if None in counts else f"on {sum(known)} test cases, "
    if missing and None not in [*counts, *lacking]:
        number = f"on {sum(known)} of {sum(known) + sum(each or 0 for each in lacking)} test cases, "
    names = [f"{each.site} ({UNKNOWN if each.test_cases is None else each.test_cases})" for each in missing]
    rest = f"; {join(names)} {'is' if len(names) == 1 else 'are'} missing" if names else ""
    return [f"The result was measured {number}at {join(sites)}{rest}."]


def _count_tested(run: RunFolder, site: str) -> int | None:
    """Return how many test cases a site told of last; None where it told of none, or that they are few."""
    stages = range(len(run.stages), 0, -1)
    for stage in stages:
        if predicted := run.predictions.get((stage, "federated", site)):
            return len(predicted)
    rows = [line for line in run.metrics if (line.arm, line.site, line.split) == ("federated", site, "test")]
    last = [line for line in rows if (line.stage, line.round) == (rows[-1].stage, rows[-1].round)]
    if not last or any(line.metric == f"{WITHHELD}/{N}" for line in last):
        return None
    return max(line.n for line in last)
