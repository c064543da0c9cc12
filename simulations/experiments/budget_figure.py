"""The picture of the label-budget study."""

import statistics
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from prostafed.server.report.plots import STYLE
from prostafed.simulations.experiments.budget_cells import BudgetCell, Parameters
from prostafed.simulations.experiments.budget_starts import STARTS

SPREAD = 0.05  # width of a budget's group of dots, in powers of ten


def plot(cells: Sequence[BudgetCell], parameters: Parameters) -> Figure:
    """Return test AUROC over the label budget: per start a line through the means and a dot per seed."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.0, 5.2), layout="constrained")
        axis = figure.subplots()
        starts = [name for name in STARTS if name in parameters.starts]
        for place, name in enumerate(starts):
            look, aside = STARTS[name], 10 ** (SPREAD * (place - (len(starts) - 1) / 2) / max(1, len(starts) - 1))
            own = [cell for cell in cells if cell.start == name]
            axis.plot(
                [cell.percent * aside for cell in own],
                [cell.auroc for cell in own],
                look.marker,
                color=look.colour,
                markersize=4,
                alpha=0.55,
                markeredgewidth=0,
            )
            percents = sorted({cell.percent for cell in own})
            means = [statistics.mean(cell.auroc for cell in own if cell.percent == percent) for percent in percents]
            axis.plot(
                [percent * aside for percent in percents],
                means,
                color=look.colour,
                linestyle="--" if look.encoder == "mobilenet" else "-",
                marker=look.marker,
                markersize=6.5,
                linewidth=1.6,
                label=look.label,
            )
        axis.axhline(0.5, color="#777777", linewidth=1, linestyle=":", label="chance")
        axis.set_xscale("log")
        percents = sorted(parameters.percents)
        labels = [f"{percent} %\n{round(parameters.cases * percent / 100)} cases" for percent in percents]
        axis.set_xticks(percents, labels)
        axis.set_xticks([], minor=True)
        axis.set_xlabel("label budget (share of the training patients with a csPCa label)")
        axis.set_ylabel("test AUROC of csPCa (1 is perfect)")
        axis.set_title("Generated images: what first weights are worth where few cases are labelled")
        figure.legend(loc="outside right upper", frameon=False)
        figure.supxlabel(caption(parameters), fontsize=7.5, x=0.01, ha="left")
    return figure


def caption(parameters: Parameters) -> str:
    """Return what the picture is made from."""
    z, y, x = parameters.size
    return (
        f"Generated images, no patients: {parameters.cases} training cases of three emulated sites, the same "
        f"{parameters.test_cases} test cases for all, {z} x {y} x {x} voxels.\n"
        f"Small marks: {parameters.seeds} seeds (own cases, labels, weights); lines: their mean, no interval. "
        f"Solid: residual encoder; dashed: MobileNetV2.\n"
        f"Federated: pretrained on all training cases of the three sites, without csPCa labels, in "
        f"{parameters.rounds} rounds. Parameters {parameters.hash()[:12]}."
    )
