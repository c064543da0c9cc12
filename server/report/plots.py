"""Plots: each takes a tidy table and returns a figure."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import escape
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from prostafed.server.report.curves import PANELS, REFERENCE
from prostafed.server.report.tables import Row
from prostafed.server.report.vocabulary import arm_of, metric_of, order_arms

STYLE = {
    "font.size": 9,
    "font.family": "sans-serif",
    "text.parse_math": False,  # a site may be called $1
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#777777",
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
}
WIDTH_IN = 9.0
GREY = "#777777"


def plot_loss(rows: Sequence[Row], colours: dict[str, str], stages: dict[int, str]) -> Figure:
    """Training loss over rounds: a panel per stage and arm, each stage on rows of its own, a line per site."""
    arms, numbers, columns = order_arms(row["arm"] for row in rows), sorted({row["stage"] for row in rows}), 3
    lines = -(-len(arms) // columns)  # of panels, for each stage
    figure, axes = _panels(lines * len(numbers), columns, panel_height_in=2.2)
    for place, number in enumerate(numbers):
        flat = [axis for line in axes[place * lines : (place + 1) * lines] for axis in line]
        for column, axis in enumerate(flat):
            arm = arms[column] if column < len(arms) else ""
            chosen = [row for row in rows if (row["stage"], row["arm"]) == (number, arm)]
            axis.set_visible(bool(chosen))
            for site in dict.fromkeys(row["site"] for row in chosen):
                _draw_line(axis, chosen, site, "loss", color=colours.get(site, GREY), marker="o")
            axis.set_title(f"{stages[number]}\n{arm_of(arm).label}")
            _label_rounds(axis, "training loss (no unit)" if column % columns == 0 else "")
        _share_limits([axis for axis in flat if axis.get_visible()])
    _legend(figure, _site_handles(rows, colours))
    return figure


def plot_validation(rows: Sequence[Row], stages: dict[int, str]) -> Figure:
    """The main validation metric over rounds: a panel per stage and site, a line per arm."""
    panels = list(dict.fromkeys((row["stage"], row["site"]) for row in rows))
    columns = 3
    figure, axes = _panels(-(-len(panels) // columns), columns, panel_height_in=2.2)
    flat = [axis for line in axes for axis in line]
    for axis in flat[len(panels) :]:
        axis.set_visible(False)
    for index, (axis, (stage, site)) in enumerate(zip(flat, panels, strict=False)):
        chosen = [row for row in rows if (row["stage"], row["site"]) == (stage, site)]
        for arm in order_arms(row["arm"] for row in chosen):
            of_arm = [row for row in chosen if row["arm"] == arm]
            _draw_line(axis, of_arm, site, "value", **arm_of(arm).line)
        stage_line = f"{stages[stage]}\n" if len({number for number, _ in panels}) > 1 else ""
        axis.set_title(f"{stage_line}{_name_site(site)}, {chosen[0]['cases']} validation cases")
        metric = metric_of(chosen[0]["metric"])
        if metric.most == 1:
            axis.set_ylim(-0.03, 1.03)
        _label_rounds(axis, f"{metric.title}, {metric.reading}" if index % columns == 0 else "")
    _legend(figure, [_arm_handle(arm) for arm in order_arms(row["arm"] for row in rows)])
    return figure


def plot_results(rows: Sequence[Row]) -> Figure:
    """One metric on the test patients: a line per site and one for the mean, a point with its interval per arm."""
    arms = order_arms(row["arm"] for row in rows)
    places = list(dict.fromkeys(_place(row) for row in rows))
    places.sort(key=lambda place: place == MEAN)
    figure = Figure(figsize=(WIDTH_IN, 0.9 + len(places) * (0.16 + 0.15 * len(arms))), layout="constrained")
    axis = figure.subplots()
    for row in rows:
        arm, look = row["arm"], arm_of(row["arm"])
        y = places.index(_place(row)) + (arms.index(arm) - (len(arms) - 1) / 2) * min(0.2, 0.8 / len(arms))
        if row["low"] is not None and row["high"] is not None:
            axis.plot([row["low"], row["high"]], [y, y], color=look.colour, linewidth=1.6, solid_capstyle="butt")
        filled = look.colour if row["scope"] == "mean" else "white"
        axis.plot([row["value"]], [y], look.marker, color=look.colour, markerfacecolor=filled, ms=5.5)
    if MEAN in places and len(places) > 1:
        axis.axhline(len(places) - 1.5, color="#bbbbbb", linewidth=0.8)
    axis.set_yticks(range(len(places)), places)
    axis.set_ylim(len(places) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    lowest = min(row["value"] if row["low"] is None else row["low"] for row in rows)
    metric = metric_of(rows[0]["metric"])
    if metric.most == 1:
        axis.set_xlim(max(0.0, lowest - 0.1) - 0.01, 1.01)
    axis.set_xlabel(f"{metric.title} on test patients ({metric.reading})")
    _legend(figure, [_arm_handle(arm) for arm in arms])
    return figure


MEAN = "mean over sites"


def plot_curves(rows: Sequence[Row]) -> Figure:
    """ROC, FROC, reliability and decision curves: a panel each, a line per arm, all sites' patients together."""
    shown = [panel for panel in PANELS if any(row["panel"] == panel for row in rows)]
    figure, axes = _panels(1, len(shown), panel_height_in=2.6)
    for axis, panel in zip(axes[0], shown, strict=True):
        of_panel = [row for row in rows if row["panel"] == panel]
        for arm in order_arms(row["arm"] for row in of_panel):
            points = [(row["x"], row["y"]) for row in of_panel if row["arm"] == arm]
            look = arm_of(arm)
            style = {"color": look.colour, "linestyle": look.dash, "linewidth": 1.3}
            if arm == REFERENCE:
                style = {"color": GREY, "linestyle": ":", "linewidth": 1}
            marker = look.marker if panel == "reliability" and arm != REFERENCE else ""
            axis.plot(*zip(*points, strict=True), marker=marker, ms=4, **style)
        title, x_label, y_label = PANELS[panel]
        axis.set_title(title)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
    _legend(figure, [_arm_handle(arm) for arm in order_arms(row["arm"] for row in rows) if arm != REFERENCE])
    return figure


def plot_updates(rows: Sequence[Row], colours: dict[str, str], stages: dict[int, str]) -> Figure:
    """What the sites sent, per stage: norm of each update over rounds, and how alike it is to the others'."""
    numbers = sorted({row["stage"] for row in rows})
    figure, axes = _panels(len(numbers), 2, panel_height_in=2.2)
    columns = (("norm", "norm of the update"), ("likeness", "mean cosine to the others"))
    for line, number in enumerate(numbers):
        for axis, (column, label) in zip(axes[line], columns, strict=True):
            chosen = [row for row in rows if row["stage"] == number and row[column] is not None]
            axis.set_visible(bool(chosen))  # one site alone is like nobody
            for site in dict.fromkeys(row["site"] for row in chosen):
                _draw_line(axis, chosen, site, column, color=colours.get(site, GREY), marker="o")
            axis.set_title(stages[number])
            _label_rounds(axis, label)
    _legend(figure, _site_handles(rows, colours))
    return figure


def draw(function: Callable[..., Figure], *arguments: Any) -> Figure:
    """Call a plot function in the report's style."""
    with rc_context(STYLE):
        return function(*arguments)


def to_svg(figure: Figure, name: str) -> str:
    """Return the figure as an SVG file: the same figure gives the same text."""
    text = io.StringIO()
    with rc_context(STYLE | {"svg.hashsalt": name}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=nothing)
    return text.getvalue()


def inline_svg(svg: str, title: str) -> str:
    """Return an SVG file's text as an element of an HTML page, which needs neither prologue nor name spaces."""
    element = re.sub(r'\s(xmlns(:xlink)?|version)="[^"]*"', "", svg[svg.index("<svg") :])
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def _place(row: Row) -> str:
    return MEAN if row["scope"] == "mean" else str(row["site"])


def _name_site(site: str) -> str:
    """The pooled arm has one site of its own."""
    return "all sites together" if site == "pooled" else site


def _panels(lines: int, columns: int, panel_height_in: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH_IN, 0.5 + lines * panel_height_in), layout="constrained")
    return figure, figure.subplots(lines, columns, squeeze=False)


def _draw_line(axis: Any, rows: Sequence[Row], site: str, column: str, **look: Any) -> None:
    points = sorted((row["round"], row[column]) for row in rows if row["site"] == site)
    axis.plot(*zip(*points, strict=True), ms=3 if len(points) <= 20 else 0, linewidth=1.3, **look)


def _label_rounds(axis: Any, y_label: str) -> None:
    axis.set_xlabel("round")
    axis.set_ylabel(y_label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))


def _share_limits(axes: Sequence[Any]) -> None:
    """The same loss stands at the same height in every arm."""
    limits = [axis.get_ylim() for axis in axes]
    for axis in axes:
        axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def _site_handles(rows: Sequence[Row], colours: dict[str, str]) -> list[Line2D]:
    look: dict[str, Any] = {"marker": "o", "ms": 3}
    sites = dict.fromkeys(row["site"] for row in rows)
    return [Line2D([], [], color=colours.get(site, GREY), label=_name_site(site), **look) for site in sites]


def _arm_handle(arm: str) -> Line2D:
    return Line2D([], [], ms=4, label=arm_of(arm).label, **arm_of(arm).line)


def _legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    figure.legend(handles=handles, loc="outside upper left", ncols=6, frameon=False, handlelength=2.6)
