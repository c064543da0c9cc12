"""An aggregator of your own: every hospital counts once, however many cases it has.

Run it: python examples/own_aggregator.py. The images are generated: the numbers say nothing about patients.
"""

from dataclasses import replace
from fractions import Fraction

from federation import HOSPITALS, STUDY

from prostafed.common.aggregation import AGGREGATORS, AggregatorEntry, NoParameters
from prostafed.server.aggregation import Aggregator, Update, fedavg
from prostafed.server.aggregation.exact import add_weighted
from prostafed.simulations import simulate


def add_equally(state: fedavg.Averaging, update: Update) -> fedavg.Averaging:
    """Return the round with one more reply, of weight 1; the sum is exact, so that order changes nothing."""
    return replace(state, total=add_weighted(state.total, update.tensors, dict.fromkeys(update.tensors, Fraction(1))))


def build(name: str, parameters: NoParameters) -> Aggregator:
    """Return federated averaging with another weight."""
    return replace(fedavg.build(name, parameters), add=add_equally)


AGGREGATORS["one_vote"] = AggregatorEntry(__name__)
if __name__ == "__main__":
    study = STUDY | {"arms": {}, "stage": [{**stage, "aggregate": "one_vote"} for stage in STUDY["stage"]]}
    print(f"Report: {simulate(study, {'site': HOSPITALS}, 'runs/own_aggregator').report}")
