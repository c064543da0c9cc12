"""The page of a comparison: what every arm reached in every variant, and curves over the label budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from prostafed.common.pages.page import format_number, open_templates
from prostafed.common.shell.files import make_folder, write_text
from prostafed.common.tasks import build_task
from prostafed.server.report import plots
from prostafed.server.report.tables import write_csv
from prostafed.server.report.vocabulary import arm_of, metric_of, order_arms

Row = dict[str, Any]
MEASURED = ("stage", "task", "metric", "arm", "scope", "site")
FIGURES = ("seeds", "mean", "least", "greatest")


@dataclass(frozen=True)
class VariantTable:
    """A table of the page: one line per variant, one column per arm."""

    title: str
    meaning: str
    settings: list[str]
    arms: list[str]
    lines: list[tuple[list[str], dict[str, Row]]]


def write_page(
    out: Path,
    summary: Sequence[Row],
    seeds: int,
    generated: bool,
    command: str,
    left_out: Sequence[str] = (),
    wanting: Sequence[str] = (),
) -> Path:
    """Write comparison.html into `out`, with its plots beside it, and return it; `left_out` says which arms are missing
    and why, `wanting` what else the runs ended without.
    """
    settings = [name for name in (summary[0] if summary else {}) if name not in (*MEASURED, *FIGURES)]
    judged = _judged(summary, settings)
    environment = open_templates(Path(__file__).parent)
    environment.filters["number"] = format_number
    environment.globals["arm_of"] = arm_of
    page = environment.get_template("page.html.j2").render(
        tables=[table for scope in ("mean", "worst", "site") if (table := _tabulate(judged, settings, scope))],
        curve=_draw_curve(out, judged),
        seeds=seeds,
        generated=generated,
        command=command,
        left_out=left_out,
        wanting=wanting,
    )
    write_text(out / "comparison.html", page)
    return out / "comparison.html"


def _judged(summary: Sequence[Row], settings: Sequence[str]) -> list[Row]:
    """Return the rows of every variant's main metric in its last stage."""
    last: dict[tuple[Any, ...], int] = {}
    for row in summary:
        variant = tuple(row[name] for name in settings)
        last[variant] = max(last.get(variant, 0), row["stage"])
    return [
        row
        for row in summary
        if row["stage"] == last[tuple(row[name] for name in settings)]
        and row["metric"] == build_task(row["task"]).metrics[0]
    ]


def _tabulate(rows: Sequence[Row], settings: Sequence[str], scope: str) -> VariantTable | None:
    chosen = [row for row in rows if row["scope"] == scope]
    if not chosen:
        return None
    columns = [*settings, *(["site"] if scope == "site" else [])]
    lines: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in chosen:
        lines.setdefault(tuple(str(row[name]) for name in columns), {})[row["arm"]] = row
    metric = metric_of(chosen[0]["metric"])
    titles = {"mean": "Mean over sites", "worst": "Worst site", "site": "Each site"}
    arms = order_arms(row["arm"] for row in chosen)
    named = [name.replace("_", " ") for name in columns]
    return VariantTable(
        f"{titles[scope]}: {metric.title}", metric.meaning, named, arms, [(list(k), v) for k, v in lines.items()]
    )


def _draw_curve(out: Path, rows: Sequence[Row]) -> Markup | None:
    """Draw the mean over sites against the label budget, where that was varied."""
    chosen = [row for row in rows if row["scope"] == "mean" and "labels" in row]
    if len({row["labels"] for row in chosen}) < 2:
        return None
    folder = make_folder(out / "plots")
    svg = plots.to_svg(plots.draw(plot_budget, chosen), "label-budget")
    write_csv(folder / "label-budget.csv", chosen)
    write_text(folder / "label-budget.svg", svg)
    return Markup(plots.inline_svg(svg, "Plot: label budget"))  # matplotlib has escaped it


def plot_budget(rows: Sequence[Row]) -> Figure:
    """Mean over sites against the label budget: a panel per start, a line per arm, bars from least to greatest seed."""
    starts = list(dict.fromkeys(str(row.get("start", "as the study says")) for row in rows))
    figure = Figure(figsize=(plots.WIDTH_IN, 2.8), layout="constrained")
    axes = figure.subplots(1, len(starts), squeeze=False, sharey=True)[0]
    for axis, start in zip(axes, starts, strict=True):
        of_start = [row for row in rows if str(row.get("start", "as the study says")) == start]
        for arm in order_arms(row["arm"] for row in of_start):
            line = sorted((row for row in of_start if row["arm"] == arm), key=lambda row: float(row["labels"]))
            look, means = arm_of(arm), [row["mean"] for row in line]
            spread = [[row["mean"] - row["least"] for row in line], [row["greatest"] - row["mean"] for row in line]]
            shares = [100 * float(row["labels"]) for row in line]
            axis.errorbar(shares, means, spread, ms=4, capsize=2, label=look.label, **look.line)
        axis.set_xscale("log")
        axis.set_xticks(shares, [f"{share:g}" for share in shares], minor=False)
        axis.minorticks_off()
        axis.set_xlabel("labelled training patients (%)")
        axis.set_title(f"start: {start}")
    axes[0].set_ylabel(metric_of(rows[0]["metric"]).title)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=6, frameon=False)
    return figure
