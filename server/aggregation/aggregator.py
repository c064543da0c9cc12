"""An aggregator as a value: three functions, called as replies arrive."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prostafed.common.messages import Reply
from prostafed.common.tensors import Tensors


@dataclass(frozen=True)
class Aggregator:
    """One line of AGGREGATORS, built.

    init      (global tensors) -> state of one round
    add       (state, admitted reply) -> state; called once per reply, in whatever order they arrive
    finish    (state, global tensors) -> (new global tensors, diagnostics for the round record)
    """

    init: Callable[[Tensors], Any]
    add: Callable[[Any, Reply], Any]
    finish: Callable[[Any, Tensors], tuple[Tensors, dict[str, float]]]
