from pathlib import Path

import pytest

from prostafed.server.records.read import read_run
from prostafed.server.report import plots
from prostafed.server.report.results import measure
from prostafed.server.report.tables import tabulate_loss, tabulate_results, tabulate_validation
from prostafed.server.report.vocabulary import ARMS, SITE_COLOURS, arm_of, colour_sites, order_arms

STAGES = {1: "Stage 1", 2: "Stage 2"}


def lines_of(axis: object) -> list[tuple[str, list[float]]]:
    return [(line.get_color(), list(line.get_ydata())) for line in axis.get_lines()]  # type: ignore[attr-defined]


def test_loss_has_a_panel_per_stage_and_arm_and_a_line_per_site(run: Path) -> None:
    rows = tabulate_loss(read_run(run))
    figure = plots.draw(plots.plot_loss, rows, {"alpha": "#111111"}, STAGES)
    assert len(figure.axes) == 6
    assert [len(axis.get_lines()) for axis in figure.axes] == [3, 3, 1, 3, 3, 1]
    expected = [row["loss"] for row in rows if (row["stage"], row["arm"], row["site"]) == (1, "federated", "alpha")]
    assert lines_of(figure.axes[0])[0] == ("#111111", expected)
    assert figure.axes[0].get_ylim() == figure.axes[2].get_ylim()
    assert "no unit" in figure.axes[0].get_ylabel()


def test_validation_has_a_panel_per_site_and_a_line_per_arm(run: Path) -> None:
    figure = plots.draw(plots.plot_validation, tabulate_validation(read_run(run)), STAGES)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in shown] == [
        *(f"{name}, 10 validation cases" for name in ("alpha", "beta", "gamma", "all sites together"))
    ]
    assert [colour for colour, _ in lines_of(shown[0])] == [ARMS["federated"].colour, ARMS["local"].colour]


def test_results_put_the_mean_last(run: Path) -> None:
    results = [result for result in measure(read_run(run)) if result.metric == "auroc"]
    figure = plots.draw(plots.plot_results, tabulate_results(results))
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["alpha", "beta", "gamma", "mean over sites"]
    assert axis.get_xlabel().startswith("AUROC on test patients")


def test_svg_is_stable_and_fit_for_a_page() -> None:
    rows = [{"stage": 1, "arm": "federated", "site": "a & b", "round": r, "loss": 1.0 / r} for r in (1, 2)]
    svg = [plots.to_svg(plots.draw(plots.plot_loss, rows, {}, STAGES), "loss") for _ in range(2)]
    assert svg[0] == svg[1]
    element = plots.inline_svg(svg[0], 'a "title"')
    assert element.startswith('<svg role="img" aria-label="a &#34;title&#34;"')
    assert "a &amp; b" in element
    assert "http" not in element


def test_colours_tell_arms_and_sites_apart() -> None:
    colours = [arm.colour for arm in ARMS.values()] + list(SITE_COLOURS)
    assert len(set(colours)) == len(colours)
    assert len({(arm.marker, arm.dash) for arm in ARMS.values()}) == len(ARMS)
    assert colour_sites(["b", "a"])["b"] == SITE_COLOURS[0]
    assert len(colour_sites([str(i) for i in range(20)])) == 20


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["pooled", "local", "federated"], ["federated", "local", "pooled"]), (["zeta", "pooled"], ["pooled", "zeta"])],
)
def test_arms_have_one_order(names: list[str], expected: list[str]) -> None:
    assert order_arms(names) == expected


def test_an_arm_without_a_line_in_the_table_is_still_shown() -> None:
    assert arm_of("another").label == "another"
