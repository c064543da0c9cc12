"""A round's updates as whole numbers, added up as they arrive: one running sum, and nothing of a single update.

Masked and in the open they are the same numbers and this is the same code, so that a masked round is the plain one to
the last bit. Their mean goes to the aggregator as one update.
"""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from prostafed.common.errors import RoundError
from prostafed.common.exchange.messages import Reply
from prostafed.common.secagg.fixed_point import list_whole_slots, open_total, to_mean
from prostafed.common.secagg.masking import Masks, add_to, apply_masks
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation.aggregator import Aggregator, Update, select_floating
from prostafed.server.exchange.admission import RejectedError
from prostafed.server.run.checkpoints import RunState


class SummedUpdates:
    """Updates of which the server keeps the sum alone. `dropped` and `problem` are told by who asks for them."""

    def __init__(self, state: RunState, shared: frozenset[str], aggregator: Aggregator, rule: str) -> None:
        """`rule`: how updates travel, a rule of whole numbers."""
        self._run_state, self._aggregator, self._rule = state, aggregator, rule
        self._combined: Tensors = {name: state.tensors[name] for name in sorted(shared)}
        self._total = open_total(self._combined, rule)
        self._cases: Mapping[str, int] = {}
        self.extra: Tensors = {}
        self.returns = list_whole_slots(self._combined, rule)
        self.replies: dict[str, Reply] = {}
        self.dropped: list[dict[str, str]] = []  # who gave no answer at which exchange, and why
        self.problem = ""  # why there is no sum

    def expect(self, cases: Mapping[str, int]) -> None:
        """Set the cases, by site, of which each update is a share."""
        self._cases = dict(cases)

    def take(self, site: str, reply: Reply) -> None:
        """Add a reply to the sum; a tensor that is missing would be a gap in the masks of all others."""
        if missing := self._total.keys() - reply.tensors.keys():
            raise RejectedError("WRONG_TENSORS", f"{len(missing)} tensors are missing, e.g. {min(missing)}")
        if reply.cases != self._cases[site]:
            text = f"it trained on {reply.cases} cases, and was to on {self._cases[site]}"
            raise RejectedError("WRONG_CASES", text)
        add_to(self._total, reply.tensors)
        self.replies[site] = replace(reply, tensors={})

    def unmask(self, masks: Masks) -> None:
        """Take off what is left of the masks in the sum."""
        apply_masks(self._total, masks)

    def describe(self) -> dict[str, Any]:
        """Return who dropped out; of single updates nothing is known."""
        return {"dropped": tuple(self.dropped)}

    def finish(self, stage: int, number: int) -> tuple[RunState, dict[str, float]]:
        """Return where the run stands; the mean counts as the update of one site."""
        weight = Fraction(sum(self._cases[site] for site in self.replies), sum(self._cases.values()))
        mean = select_floating(to_mean(self._combined, self._total, weight, self._rule))
        round_state = self._aggregator.init(self._combined, self._run_state.memory, 1)
        try:
            round_state = self._aggregator.add(round_state, Update("sum", 1, 1, mean))
        except RejectedError as error:
            raise RoundError(f"{error}. Lower the stage's learning_rate") from error
        outcome = self._aggregator.finish(round_state)
        tensors = {**self._run_state.tensors, **outcome.tensors}
        if not all(np.isfinite(array).all() for array in select_floating(outcome.tensors).values()):
            raise RoundError("the mean of the updates is not finite")
        state = replace(self._run_state, stage=stage, round=number, tensors=tensors, memory=outcome.memory)
        return state, outcome.diagnostics
