"""A round's updates, taken one by one as they arrive: admission, then straight into the aggregator.

A round knows them by what any way to take them can tell. The open way sees each update, admits it by its norm and its
fingerprint, and compares it with the others: a server that sees sums alone (secure aggregation) can do none of that.
"""

from dataclasses import asdict, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from prostafed.common.exchange.arrays import Layout
from prostafed.common.exchange.compression import list_slots
from prostafed.common.exchange.messages import Reply
from prostafed.common.study import Round
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation.aggregator import Aggregator, Update
from prostafed.server.aggregation.similarity import compare_updates, sample_update
from prostafed.server.exchange.admission import NETWORK, Admitted, RejectedError, admit_update
from prostafed.server.run.checkpoints import RunState


class Updates(Protocol):
    """What has come in so far in a round."""

    extra: Tensors  # what is sent beside the global tensors
    returns: Layout  # what sites may send back
    replies: dict[str, Reply]  # that were taken, without tensors, by site
    problem: str  # why they cannot be combined, however many there are; "" where they can

    def take(self, site: str, reply: Reply) -> None:
        """Add a site's reply; raises RejectedError, and leaves no trace, where it cannot be used."""

    def describe(self) -> dict[str, Any]:
        """Return what of the round's record single updates tell: nothing, where they cannot be seen."""

    def finish(self, stage: int, number: int) -> tuple[RunState, dict[str, float]]:
        """Return where the run stands after the round, and the aggregator's diagnostics; raises RoundError where too
        few replies came for the aggregator's rule.
        """


class OpenUpdates:
    """Updates that the server sees. One reply's tensors are in memory at a time, beside the aggregator's state."""

    def __init__(
        self, state: RunState, shared: frozenset[str], aggregator: Aggregator, section: Round, sites: int, seed: int
    ) -> None:
        """`sites`: how many the federation has now, whether asked this round or not; `seed`: the study's."""
        self._run_state, self._section, self._aggregator = state, section, aggregator
        combined = {name: state.tensors[name] for name in sorted(shared)}
        self.extra = aggregator.send(combined, state.memory)
        self._combined, self._seed, self._samples = combined, seed, dict[str, npt.NDArray[np.float64]]()
        self._expected: Tensors = {**combined, **self.extra}
        self.returns = list_slots(self._expected, section.compress, section.top_fraction)
        self._state = aggregator.init(combined, state.memory, sites)
        self._admitted: dict[str, Admitted] = {}
        self.replies: dict[str, Reply] = {}
        self.problem = ""

    def take(self, site: str, reply: Reply) -> None:
        """Admit and add a reply."""
        section = self._section
        admitted = admit_update(
            reply, self._expected, self.extra, section.compress, section.norm_limit, self._run_state.history
        )
        steps = int(reply.metrics.get("train/steps", 1))
        try:
            self._state = self._aggregator.add(self._state, Update(site, reply.cases, steps, admitted.tensors))
        except RejectedError as error:
            raise self._explain(error) from error
        self._admitted[site] = replace(admitted, tensors={})
        self._samples[site] = sample_update(admitted.tensors, self._combined, self._seed)
        self.replies[site] = replace(reply, tensors={})

    def _explain(self, error: RejectedError) -> RejectedError:
        """Return `error`; of values that are too large, with what is usual and what to do."""
        if error.code != "TOO_LARGE":
            return error
        usual = max((float(np.abs(array).max(initial=0)) for array in self._combined.values()), default=0.0)
        return RejectedError(
            error.code,
            f"{error}; the largest that was sent to it was {usual:.3g}. Training diverged at the site: lower the "
            "stage's learning_rate",
        )

    def describe(self) -> dict[str, Any]:
        """Return the norm of the network's part of each admitted update, and how alike they are."""
        norms = {site: self._admitted[site].norms[NETWORK] for site in sorted(self._admitted)}
        likeness = compare_updates(self._samples, {site: reply.cases for site, reply in self.replies.items()})
        return {"norms": norms, **asdict(likeness)}

    def finish(self, stage: int, number: int) -> tuple[RunState, dict[str, float]]:
        """Return where the run stands, what was admitted entered in its history."""
        outcome = self._aggregator.finish(self._state)
        state = replace(
            self._run_state,
            stage=stage,
            round=number,
            tensors={**self._run_state.tensors, **outcome.tensors},
            memory=outcome.memory,
            history=self._run_state.history.after(self._admitted),
        )
        return state, outcome.diagnostics
