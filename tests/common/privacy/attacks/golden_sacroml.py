"""Makes golden_sacroml.json: what sacroml, the tool of UK research environments for attacks after training, finds in
tables of scores and membership. It brings xgboost, acro and makers of PDF, so it runs in an environment of its own:

    python -m venv sacro && sacro/bin/pip install sacroml && cd tests/common/privacy/attacks
    python golden_sacroml.py > golden_sacroml.json
"""

import json
from importlib.metadata import version

import numpy as np
from sacroml.metrics import get_metrics


def make_table(seed: int) -> tuple[list[int], list[float]]:
    """Return membership and scores, some of them tied, in [0, 1]."""
    generator = np.random.default_rng(seed)
    members, others = int(generator.integers(10, 60)), int(generator.integers(10, 60))
    shift = float(generator.uniform(0, 0.5))
    scores = np.concatenate([generator.uniform(shift, 1, members), generator.uniform(0, 1, others)]).round(2)
    return [1] * members + [0] * others, scores.tolist()


if __name__ == "__main__":
    rows = []
    for seed in range(12):
        member, scores = make_table(seed)
        probabilities = np.stack([1 - np.array(scores), scores], axis=1)
        found = get_metrics(probabilities, np.array(member))
        rows.append({"member": member, "scores": scores, "auc": float(found["AUC"])})
    print(json.dumps({"sacroml": version("sacroml"), "tables": rows}))
