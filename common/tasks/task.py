"""A supervised task as a value: its heads, what it learns from, its loss, what it says of a case, and how that is
measured, shown and described.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from prostafed.common.imaging.cases import CaseRecord, Masks
from prostafed.common.metrics.measure import Measure
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.summary import LESIONS, LOSS, POSITIVES, STATISTICS
from prostafed.common.models.network import GroupBuilder
from prostafed.common.tasks.answer import Answer, CandidateRule, Kind, check_answer

_NAME = re.compile(r"[a-z][a-z0-9_]{2,40}")
_TAKEN = (*STATISTICS, LOSS, POSITIVES, LESIONS, "steps", "generated")


@dataclass(frozen=True)
class Task:
    """One line of TASKS, built.

    heads          builders of the tensor groups beside "encoder"; they stay at the site
    usable         whether a case carries what the task learns from
    targets        (records, masks (batch, MASKS, z, y, x)) -> target
    teaches_cspca  whether targets tell who has csPCa
    counted        yes-or-no facts of a patient that a number over patients counts where a network says one thing of all
    outputs        (network, images (batch, sequence, z, y, x)) -> logits; those of the kinds "heat map" and
                   "structures" are maps, (batch, channel, z, y, x) on the images' own grid, others (batch, ...)
    channels       the meaning of each of the logits' channels
    loss           (logits, target) -> what each case costs, (batch,). It depends on that case alone, so that a batch's
                   mean is the same in whatever parts and processes it is passed, and a site's objective is that of its
                   cases
    predict        logits of one case -> prediction: probabilities, a map (z, y, x), maps (channel, z, y, x), a number
    assess         (prediction, record, masks, spacing_mm) -> what is compared over cases
    read           (prediction, which candidates are shown) -> what a radiologist is told
    kind           of answer. Only "score" and "heat map" speak of csPCa
    metrics        what the task is judged by, the first one first: names of STATISTICS or of `measures`
    measures       how the measures that `assess` takes of a case are shown, and what may leave a site of their means
    sentence       what the model does, without a full stop
    says           what it says of a case, in sentences
    limits         where not to trust it, beside what is true of every model, in sentences
    """

    heads: Mapping[str, GroupBuilder]
    usable: Callable[[CaseRecord], bool]
    targets: Callable[[Sequence[CaseRecord], Tensor], Tensor]
    teaches_cspca: bool
    outputs: Callable[[nn.ModuleDict, Tensor], Tensor]
    channels: tuple[str, ...]
    loss: Callable[[Tensor, Tensor], Tensor]
    predict: Callable[[Tensor], npt.NDArray[np.float32]]
    assess: Callable[[npt.NDArray[np.float32], CaseRecord, Masks, tuple[float, float, float]], CasePrediction]
    read: Callable[[npt.NDArray[np.float32], CandidateRule], Answer]
    kind: Kind
    metrics: tuple[str, ...]
    sentence: str
    says: str
    counted: Callable[[CaseRecord], Sequence[bool]] = lambda record: ()
    measures: Mapping[str, Measure] = field(default_factory=dict)
    limits: tuple[str, ...] = ()

    @property
    def maps(self) -> bool:
        """Return whether logits are maps."""
        return self.kind in ("heat map", "structures")

    @property
    def judges_cspca(self) -> bool:
        """Return whether predictions carry a score of csPCa."""
        return self.kind in ("score", "heat map")

    def answer(self, prediction: npt.NDArray[np.float32], rule: CandidateRule) -> Answer:
        """Return what a radiologist is told; raises ValueError where that is not of the task's kind."""
        return check_answer(self.read(prediction, rule), self.kind)

    def check(self) -> None:
        """Raise ValueError, without a full stop, where a fact is missing or impossible."""
        if self.kind not in get_args(Kind):
            raise ValueError(f"expected a kind of answer among {', '.join(get_args(Kind))}, found '{self.kind}'")
        for name in ("sentence", "says", "channels", "metrics"):
            if not getattr(self, name) or not all(getattr(self, name)):
                raise ValueError(f"expected '{name}' to say something, found {getattr(self, name)!r}")
        known = [*self.measures, *(STATISTICS if self.judges_cspca else ())]
        if unknown := [name for name in self.metrics if name not in known]:
            raise ValueError(f"expected metrics among {', '.join(known) or 'its measures'}, found '{unknown[0]}'")
        for name, measure in self.measures.items():
            if name in _TAKEN or not _NAME.fullmatch(name) or name.endswith(("_low", "_high")):
                raise ValueError(f"expected a measure's name in small letters that no other has, found '{name}'")
            if not measure.label or not measure.meaning or not -np.inf < measure.least < measure.most < np.inf:
                raise ValueError(f"expected the measure '{name}' to have a label, a meaning and a range")
