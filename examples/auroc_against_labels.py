"""How good is a model of few labels? Plots AUROC against labels, federated and alone.

Run it: python examples/auroc_against_labels.py. The images are generated: the numbers say nothing about patients.
"""

from federation import HOSPITALS, STUDY
from matplotlib import pyplot

from prostafed.simulations import simulate

SHARES = (0.3, 0.6, 1.0)  # of each hospital's labelled training patients
ARMS = {"federated": ("federated", "#0072b2", "o"), "local": ("each hospital alone", "#d55e00", "s")}

if __name__ == "__main__":
    found = []
    for share in SHARES:
        stage = STUDY["stage"][1] | {"labels": share}
        run = simulate(STUDY | {"stage": [stage]}, {"site": HOSPITALS}, f"runs/labels-{share}")
        found += [(share, row) for row in run.results if (row["metric"], row["scope"]) == ("auroc", "mean")]
    figure, axes = pyplot.subplots(layout="constrained")
    for arm, (label, colour, marker) in ARMS.items():
        points = [(100 * share, row["value"], row["low"], row["high"]) for share, row in found if row["arm"] == arm]
        x, y, low, high = zip(*points, strict=True)
        axes.plot(x, y, color=colour, marker=marker, label=label)
        axes.fill_between(x, low, high, color=colour, alpha=0.15)
    axes.set(xlabel="labelled training patients used (%)", ylabel="AUROC (0 to 1), mean over hospitals", ylim=(0, 1))
    patients = f"{found[0][1]['patients']} test patients"
    axes.set_title(f"generated images, {patients}; bands: 95 %, patients resampled", size=9)
    axes.legend()
    figure.savefig("auroc_against_labels.png", dpi=150)
