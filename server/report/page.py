"""The report as one HTML file that asks nothing of the network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from prostafed.common.dossier.words import say_controls
from prostafed.common.metrics.bootstrap import LEVEL, RESAMPLES
from prostafed.common.metrics.summary import STATISTICS
from prostafed.common.pages.page import format_number, open_templates
from prostafed.common.pages.pictures import GLAND_COLOUR, LESION_COLOUR
from prostafed.common.shell.configuration import parse
from prostafed.common.shell.files import make_folder, write_text
from prostafed.common.study import Privacy
from prostafed.server.records.read import RunFolder, read_run
from prostafed.server.report import plots, tables
from prostafed.server.report.cohorts import list_scanners, mean_shift, tabulate_cohorts
from prostafed.server.report.curves import tabulate_curves
from prostafed.server.report.examples import heat_stops, read_example
from prostafed.server.report.missing import TITLE, find_missing, say_missing
from prostafed.server.report.notices import list_notices
from prostafed.server.report.results import Result, list_arms, list_sites, measure
from prostafed.server.report.verdict import MIN_PER_CLASS, compare, format_signed, judged, scarce_sites, write_verdict
from prostafed.server.report.vocabulary import (
    arm_of,
    colour_sites,
    describe_readers,
    describe_scanner,
    metric_of,
    order_arms,
)

OPEN_ROUNDS = 30  # more rounds than that are folded away

CAPTIONS = {
    "curves": "All sites' test patients together; each arm's scores as they are. Dotted: chance, perfect calibration, "
    "and acting on nobody. Few patients make curves of few steps.",
    "updates": "Left: length of what each site sent, as a difference to the global model; right: mean cosine to the "
    "other sites' updates, on a sample of coordinates. A site below the others learns something else.",
    "results": "Open marks: one site; filled marks: mean over sites. Lines: 95 % intervals.",
    "loss": "Mean training loss of each round, per site. Losses of different stages are not comparable.",
    "validation": "Measured on validation patients, who are neither trained on nor tested on.",
}


@dataclass(frozen=True)
class Plot:
    """A plot as it stands in the page."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class MetricTable:
    """The results of one stage and metric: a line per site, one for the mean, one for the worst site."""

    stage: int
    metric: str
    arms: list[str]
    lines: list[tuple[str, dict[str, Result]]]


def write_page(path: Path) -> Path:
    """Write report.html and plots/ into the run folder `path`; return the page."""
    run = read_run(path)
    results = measure(run)
    environment = open_templates(Path(__file__).parent)
    environment.filters |= {"signed": format_signed, "duration": format_duration, "number": format_number}
    environment.globals |= {"arm_of": arm_of, "metric_of": metric_of, "describe_scanner": describe_scanner}
    environment.globals["describe_readers"] = describe_readers
    page = environment.get_template("report.html.j2").render(**_context(run, results))
    write_text(path / "report.html", page)
    return path / "report.html"


def _context(run: RunFolder, results: Sequence[Result]) -> dict[str, Any]:
    spacing_mm = tuple(run.study.get("data", {}).get("spacing_mm", (1.0, 1.0, 1.0)))
    examples = [read_example(path, (spacing_mm[1], spacing_mm[2])) for path in run.examples]
    unreadable = [path.name for path, example in zip(run.examples, examples, strict=True) if example is None]
    arms = judged(run, results)
    federated = next((result for result in arms if result.arm == "federated"), None)
    few = bool(scarce_sites(results, arms))
    rounds = tables.tabulate_rounds(run)
    sites = list_sites(run)
    return {
        "run": run,
        "verdict": write_verdict(run, results),
        "privacy": say_controls(parse(run.study.get("privacy", {}), Privacy, str(run.path / "study.json"))),
        "missing": {"title": TITLE, "text": say_missing(run, missing)} if (missing := find_missing(run)) else None,
        "notices": list_notices(run, results, unreadable),
        "arms": list_arms(run),
        "sites": sites,
        "site_colours": colour_sites(sites),
        "site_cases": {site: max((line.cases.get(site, 0) for line in run.rounds), default=0) for site in sites},
        "images": {site.name: site.images for site in run.sites},
        "metric_tables": _metric_tables(results),
        "tested": any(result.resamples is not None for result in results),
        "resamples": RESAMPLES,
        "min_per_class": MIN_PER_CLASS,
        "level": LEVEL,
        "cspca": any(result.metric in STATISTICS for result in results),  # whether it is judged
        "differences": [
            compare(run, federated, other, few, tested=True) for other in arms if federated and other is not federated
        ],
        "judged_by": arms[0].metric if arms else "",
        "sites_work": _describe_sites(run),
        "cohorts": (cohorts := tabulate_cohorts(run.cohorts, sites)),
        "shifts": [mean_shift(cohorts, place) for place in range(len(sites))],
        "scanners": list_scanners(run.cohorts),
        "plots": _draw_plots(run, results, judged=arms),
        "examples": sorted((example for example in examples if example), key=lambda each: _place(sites, each.site)),
        "example_colours": {"gland": GLAND_COLOUR, "lesion": LESION_COLOUR, "heat": heat_stops()},
        "work": tables.tabulate_work(run),
        "rounds": rounds,
        "rounds_open": len(rounds) <= OPEN_ROUNDS,
        "incidents": tables.list_incidents(run),
        "stage_labels": _stage_labels(run),
    }


def _describe_sites(run: RunFolder) -> list[dict[str, Any]]:
    """Return, per site, its rounds, and its mean likeness and influence over the last stage's rounds."""
    rows = tables.tabulate_updates(run)
    last = max((row["stage"] for row in rows), default=0)
    described = []
    for site in list_sites(run):
        mine = [row for row in rows if row["site"] == site]
        late = [row for row in mine if row["stage"] == last]
        rejected = sum(
            each.get("site") == site for line in run.rounds if line.arm == "federated" for each in line.rejections
        )
        described.append(
            {
                "site": site,
                "rounds": len(mine),
                "rejections": rejected,
                **{name: _mean([row[name] for row in late]) for name in ("norm", "likeness", "influence")},
            }
        )
    return described


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _metric_tables(results: Sequence[Result]) -> list[MetricTable]:
    found = []
    for stage, metric in dict.fromkeys((result.stage, result.metric) for result in results):
        chosen = [result for result in results if (result.stage, result.metric) == (stage, metric)]
        if all(result.value is None and not result.withheld for result in chosen):
            continue
        lines: list[tuple[str, dict[str, Result]]] = []
        for site in dict.fromkeys(result.site for result in chosen if result.scope == "site"):
            lines.append((site, {r.arm: r for r in chosen if (r.scope, r.site) == ("site", site)}))
        for scope, label in (("mean", "Mean over sites"), ("worst", "Worst site")):
            if of_scope := {result.arm: result for result in chosen if result.scope == scope}:
                lines.append((label, of_scope))
        found.append(MetricTable(stage, metric, order_arms(result.arm for result in chosen), lines))
    return found


def _draw_plots(run: RunFolder, results: Sequence[Result], judged: Sequence[Result]) -> dict[str, Plot]:
    """Draw every plot that has data, each saved as CSV and SVG in plots/."""
    labels, colours = _stage_labels(run), colour_sites(list_sites(run))
    main = [r for r in results if judged and (r.stage, r.metric) == (judged[0].stage, judged[0].metric)]
    wanted: list[tuple[str, list[tables.Row], Callable[..., Figure], tuple[Any, ...]]] = [
        ("results", tables.tabulate_results(main), plots.plot_results, ()),
        ("curves", tabulate_curves(run), plots.plot_curves, ()),
        ("updates", tables.tabulate_updates(run), plots.plot_updates, (colours, labels)),
        ("loss", tables.tabulate_loss(run), plots.plot_loss, (colours, labels)),
        ("validation", tables.tabulate_validation(run), plots.plot_validation, (labels,)),
    ]
    drawn = {}
    for name, rows, function, arguments in wanted:
        if not rows:
            continue
        folder = make_folder(run.path / "plots")
        svg = plots.to_svg(plots.draw(function, rows, *arguments), name)
        tables.write_csv(folder / f"{name}.csv", rows)
        write_text(folder / f"{name}.svg", svg)
        drawn[name] = Plot(Markup(plots.inline_svg(svg, f"Plot: {name}")), CAPTIONS[name])  # matplotlib has escaped it
    return drawn


def _stage_labels(run: RunFolder) -> dict[int, str]:
    recorded = {line.stage for line in run.rounds} | {line.stage for line in run.metrics}
    numbers = recorded | set(range(1, len(run.stages) + 1))
    return {number: tables.label_stage(run, number) for number in sorted(numbers)}


def _place(sites: Sequence[str], site: str) -> int:
    return sites.index(site) if site in sites else len(sites)


def format_duration(seconds: float | None) -> str:
    """Return "4.2 s", "3 min 20 s" or "2 h 5 min"."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
