"""Averaging in two steps, sites within a region and then the regions, equal to averaging all sites at once bit for bit.

A region does not pass on its mean, which is rounded, but its exact sum (exact.py): sums of whole numbers do not depend
on how they are bracketed. Both steps are aggregators, one's outcome the other's update:

    within = build_region()      finish(state).tensors is the region's sum, named integer tensors
    across = build_top()         add(state, Update(region, cases, steps, those tensors)); finish gives the new model

A region's sum takes 16 bytes a parameter, four times a float32 model.
"""

from fractions import Fraction

import numpy as np

from prostafed.common.errors import CheckpointError
from prostafed.common.tensors import Tensors, check_layout
from prostafed.server.aggregation import exact
from prostafed.server.aggregation.aggregator import Aggregator, Outcome, Update, measure_step
from prostafed.server.aggregation.exact import ExactSum
from prostafed.server.aggregation.fedavg import Averaging, add_by_cases, start_averaging, take_means
from prostafed.server.exchange.admission import RejectedError


def build_region() -> Aggregator:
    """Return the step within a region: federated averaging that stops at the sum."""
    return Aggregator(
        init=start_averaging, add=add_by_cases, finish=lambda state: Outcome(write_sum(state.total), {}, {})
    )


def build_top() -> Aggregator:
    """Return the step across regions; it rejects an update that is no sum over the model's tensors."""
    return Aggregator(init=start_averaging, add=_add_region, finish=_finish)


def write_sum(total: ExactSum) -> Tensors:
    """Return a sum of tensors weighted by cases as integer tensors: coarse.NAME and fine.NAME (flat), and counts.NAME,
    the cases and replies summed.
    """
    written: Tensors = {f"coarse.{name}": array for name, array in total.coarse.items()}
    written |= {f"fine.{name}": array for name, array in total.fine.items()}
    return written | {
        f"counts.{name}": np.array([int(total.weights[name]), total.replies[name]], np.int64) for name in total.coarse
    }


def read_sum(tensors: Tensors, expected: ExactSum) -> ExactSum:
    """Return the sum that write_sum wrote; raises CheckpointError where its tensors are not those of `expected`."""
    check_layout(write_sum(expected), tensors)
    counts = {name: tensors[f"counts.{name}"].tolist() for name in expected.coarse}
    if any(cases < replies or replies < 0 for cases, replies in counts.values()):
        raise CheckpointError("A region's sum counts fewer cases than replies, or less than none; it cannot be used.")
    return ExactSum(
        {name: tensors[f"coarse.{name}"] for name in expected.coarse},
        {name: tensors[f"fine.{name}"] for name in expected.coarse},
        {name: Fraction(cases) for name, (cases, _) in counts.items()},
        {name: replies for name, (_, replies) in counts.items()},
    )


def merge(total: ExactSum, part: ExactSum) -> ExactSum:
    """Return the sum of two sums over the same tensors: that of all their replies, bit for bit. The arrays of `total`
    are reused. Raises RejectedError where there are too many replies.
    """
    for name, count in total.replies.items():
        if count + part.replies[name] > exact.MOST_REPLIES:
            raise RejectedError("TOO_MANY", f"{name} would be the sum of more than {exact.MOST_REPLIES} replies")
    for name in total.coarse:
        total.coarse[name] += part.coarse[name]
        total.fine[name] += part.fine[name]
    return ExactSum(
        total.coarse,
        total.fine,
        {name: weight + part.weights[name] for name, weight in total.weights.items()},
        {name: count + part.replies[name] for name, count in total.replies.items()},
    )


def _add_region(state: Averaging, update: Update) -> Averaging:
    try:
        part = read_sum(update.tensors, state.total)
    except CheckpointError as error:
        raise RejectedError("WRONG_TENSORS", str(error)) from error
    return Averaging(state.sent, state.memory, merge(state.total, part))


def _finish(state: Averaging) -> Outcome:
    tensors = take_means(state)
    return Outcome(tensors, {}, measure_step(state.sent, tensors))
