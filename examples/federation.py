"""Three hospitals learn to find lesions together. Run it: python examples/federation.py

The images are generated and few: the numbers say nothing about patients. The run is written to runs/federation.
"""

from prostafed.simulations import simulate

STUDY = {
    "name": "example",
    "data": {"size": [8, 24, 24], "spacing_mm": [6.0, 3.0, 3.0], "test_fraction": 0.4},
    "model": {"width": 4, "resolutions": 3},
    "stage": [{"kind": "pretrain", "rounds": 2}, {"kind": "finetune", "task": "lesion", "rounds": 2}],
    "arms": {"compare": ["local"]},
}
HOSPITALS = [
    {"name": "north", "source": "phantom", "cases": 24, "scanner": {"vendor": "siemens"}},
    {"name": "east", "source": "phantom", "cases": 20, "scanner": {"vendor": "philips"}},
    {"name": "south", "source": "phantom", "cases": 16, "scanner": {"vendor": "ge"}},
]

if __name__ == "__main__":
    run = simulate(STUDY, {"site": HOSPITALS}, "runs/federation")
    for row in run.results:
        if row["metric"] == "auroc" and row["scope"] == "site":
            print(f"{row['arm']:9} {row['site']:5} {row['patients']} patients, AUROC {row['value']}")
    print(f"Report: {run.report}")
