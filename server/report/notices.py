"""What a reader must know before the numbers: generated images, unfinished runs, missing parts."""

from collections.abc import Sequence

from prostafed.common.aggregation import AGGREGATORS
from prostafed.server.records.read import RunFolder
from prostafed.server.report import tables
from prostafed.server.report.results import Result
from prostafed.server.report.shortcomings import Notice, list_shortcomings
from prostafed.server.report.verdict import MIN_PER_CLASS, all_generated, judged, scarce_sites
from prostafed.server.report.vocabulary import arm_of
from prostafed.server.report.withheld import list_withheld


def list_notices(run: RunFolder, results: Sequence[Result], unreadable: Sequence[str]) -> list[Notice]:
    """Return the notices of a run, the most important first."""
    lost = f"These examples could not be read: {', '.join(unreadable)}."
    return [
        *_generated(run),
        *list_shortcomings(run),
        *_unfinished(run),
        *_failed_rounds(run),
        *_reported(run),
        *_too_few_to_bear(run),
        *_overlap(run),
        *_left_out(run),
        *_arms_left_out(run),
        *_few_patients(run, results),
        *_withheld(run),
        *([Notice("note", "Pictures left out", lost)] if unreadable else []),
    ]


def _generated(run: RunFolder) -> list[Notice]:
    generated = [site.name for site in run.sites if site.generated] or sorted(run.generated_sites)
    if not generated:
        return []
    if all_generated(run):
        text = (
            "Every image, report and diagnosis in this run was made by a computer model of the prostate. The numbers "
            "show how the software and the methods behave; they say nothing about patients."
        )
        return [Notice("generated", "Generated images", text)]
    text = f"The cases of {', '.join(generated)} were made by a computer model of the prostate; the others are real."
    return [Notice("generated", "Partly generated images", text)]


def _too_few_to_bear(run: RunFolder) -> list[Notice]:
    """Rounds that a robust rule combined which could not be robust of so few replies."""
    needed = {name: entry.bears_from for name, entry in AGGREGATORS.items()}
    counted = [line for line in run.rounds if line.aggregated and line.arm == "federated"]
    short = [line for line in counted if len(line.replies) < needed.get(line.aggregate, 0)]
    return [
        Notice(
            "note",
            f"{name} of too few replies",
            f"{sum(line.aggregate == name for line in short)} rounds had fewer than {needed[name]} replies: what "
            f"{name} made of them is a mean, which one wrong site can move at will.",
        )
        for name in sorted({line.aggregate for line in short})
    ]


def _overlap(run: RunFolder) -> list[Notice]:
    if not run.record.overlap:
        return []
    text = f"{' '.join(run.record.overlap)} The run was told to go on; results of these sites may be too good."
    return [Notice("unfinished", "Sites share patients", text)]


def _left_out(run: RunFolder) -> list[Notice]:
    return [
        Notice("note", f"{site}: {len(texts)} {'study' if len(texts) == 1 else 'studies'} left out", " ".join(texts))
        for site, texts in sorted(run.record.left_out.items())
    ]


def _arms_left_out(run: RunFolder) -> list[Notice]:
    """One notice per arm: where a hospital cannot learn alone, an ensemble is of the others."""
    runs: dict[str, list[str]] = {}
    for line in run.record.arms_left_out:
        runs.setdefault(line.arm, []).append(f"{line.run}: {line.why}")
    return [Notice("note", f"Left out of {arm_of(arm).label.lower()}", " ".join(said)) for arm, said in runs.items()]


def _unfinished(run: RunFolder) -> list[Notice]:
    behind = [row for row in tables.tabulate_work(run) if row["done"] < row["planned"]]
    if run.record.state == "finished" and not behind:
        return []
    if not behind and not run.record.state:
        return []  # a run without a run.json whose rounds are all there
    done = [
        f"{arm_of(row['arm']).label.lower()}, {row['stage'].lower()}: {row['done']} of {row['planned']}"
        for row in behind
    ]
    states = {"running": "still running", "finished": "finished with rounds missing"}
    state = states.get(run.record.state, "interrupted")
    rounds = f" Rounds done: {'; '.join(done)}." if done else " Its rounds are all there, its last steps are not."
    return [Notice("unfinished", "Incomplete run", f"This run is {state}; the report shows what there is.{rounds}")]


def _failed_rounds(run: RunFolder) -> list[Notice]:
    failed = sum(not line.aggregated for line in run.rounds)
    if not failed:
        return []
    text = f"{failed} {'round was' if failed == 1 else 'rounds were'} not aggregated: too few usable replies."
    return [Notice("unfinished", "Rounds not aggregated", text)]


def _reported(run: RunFolder) -> list[Notice]:
    turned_away: dict[str, list[str]] = {}
    for line in run.rounds:
        for site in line.reported:
            last = [each for each in line.rejections if each.get("site") == site][-1]
            why = ": ".join(filter(None, (last.get("code", ""), last.get("text", "").partition(";")[0])))
            said = f"up to round {line.round} of stage {line.stage} or beyond ({why})"
            turned_away.setdefault(site, []).append(said)
    return [
        Notice("unfinished", f"Nothing of {site} was used for several rounds", f"In a row {'; '.join(said)}.")
        for site, said in sorted(turned_away.items())
    ]


def _few_patients(run: RunFolder, results: Sequence[Result]) -> list[Notice]:
    scarce = scarce_sites(results, judged(run, results))
    if not scarce:
        return []
    of_kinds = any(len(kinds) > 1 for kinds in scarce.values())
    counts = ", ".join(
        f"{site} {kinds[0]} with and {kinds[1]} without" if len(kinds) > 1 else f"{site} {kinds[0]}"
        for site, kinds in scarce.items()
    )
    text = (
        f"Some sites have fewer than {MIN_PER_CLASS} test cases"
        f"{' of a kind, with or without csPCa' if of_kinds else ''} ({counts}). "
        "Intervals from so few are too narrow, so no difference between arms counts as shown."
    )
    return [Notice("note", "Few test patients", text)]


def _withheld(run: RunFolder) -> list[Notice]:
    said = "; ".join(f"{site} ({', '.join(texts)})" for site, texts in list_withheld(run).items())
    own = " The tables below are of the simulation's own cases, and whole." if run.predictions else ""
    text = f"Sites keep to themselves what rests on few patients: {said}.{own}"
    return [Notice("note", "Withheld", text)] if said else []
