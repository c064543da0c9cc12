"""Write golden_epsilon.json: epsilon by the accountant of dp-accounting, which cannot share our environment.

Run it with a Python that has dp-accounting alone: `python tests/common/privacy/golden_epsilon.py`.
"""

import json
from itertools import product
from pathlib import Path
from typing import Any

from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant

# patients, batch size, noise, epochs, delta; the first four are those of the project's own reference
REFERENCE = [(800, 64, sigma, 50, 1.25e-4) for sigma in (1.0, 1.5, 2.0, 4.0)]
GRID = [
    (n, batch, sigma, epochs, 1e-5)
    for (n, batch), sigma, epochs in product(((100, 8), (400, 16), (2000, 64)), (0.7, 1.0, 2.0, 5.0), (5, 40))
]
WHOLE = [(30, 30, sigma, rounds, 1e-2) for sigma, rounds in ((5.0, 100), (10.0, 20), (1.0, 1))]
# several mechanisms one after the other: [(noise, rate, steps)], delta
COMPOSED = [
    ([(1.0, 0.05, 400), (2.0, 0.2, 100)], 1e-5),
    ([(1.5, 0.02, 1000), (1.0, 0.1, 50), (4.0, 0.5, 40)], 1e-6),
    ([(3.0, 1.0, 4), (1.2, 0.08, 300)], 1e-5),
    ([(0.8, 0.01, 500), (5.0, 1.0, 10), (0.9, 0.03, 200)], 1e-5),
]


def epsilon(mechanisms: list[tuple[float, float, int]], delta: float) -> float:
    """Return epsilon of mechanisms one after the other."""
    accountant = PLDAccountant()
    for noise, rate, steps in mechanisms:
        event = GaussianDpEvent(noise)
        accountant.compose(event if rate == 1 else PoissonSampledDpEvent(rate, event), steps)
    return float(accountant.get_epsilon(delta))


def main() -> None:
    """Write the file."""
    points: list[dict[str, Any]] = []
    for n, batch, sigma, epochs, delta in REFERENCE + GRID + WHOLE:
        steps = max(1, round(epochs * n / batch))
        about = {"patients": n, "batch_size": batch, "noise": sigma, "epochs": epochs, "delta": delta}
        points.append({**about, "epsilon": epsilon([(sigma, batch / n, steps)], delta)})
    composed = [{"mechanisms": each, "delta": delta, "epsilon": epsilon(each, delta)} for each, delta in COMPOSED]
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps({"points": points, "composed": composed}, indent=1) + "\n")


if __name__ == "__main__":
    main()
