"""What may leave a site in a stage: worked out from the study alone, before and apart from all that is trained."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.errors import ConfigurationError
from prostafed.common.exchange.arrays import Layout
from prostafed.common.exchange.compression import list_slots
from prostafed.common.secagg.fixed_point import FORMS, list_whole_slots
from prostafed.common.study import parse_study
from prostafed.common.study.network import build_stage_network, shared_names
from prostafed.common.tensors import Tensors


@dataclass(frozen=True)
class Allowance:
    """What may leave in a stage."""

    update: Tensors  # what an update has to look like before compression; the arrays hold nothing
    payload: Layout  # the names, dtypes and shapes it travels in
    kept: Layout  # those it is kept in until it travels: of what is summed the whole update, else the same


@lru_cache(maxsize=16)
def allow(canonical: str, number: int) -> Allowance:
    """Return what may leave in a stage of the study whose canonical form is `canonical`.

    The network is built on torch's "meta" device: names, shapes and dtypes, and no weights.
    """
    study = parse_study(canonical)
    stage = study.stage[number - 1]
    try:
        with torch.device("meta"):
            network = build_stage_network(study, number)
    except (NotImplementedError, RuntimeError):  # it needs values while it is built
        network = build_stage_network(study, number)
    tensors = {name: _outline(tensor) for name, tensor in network.state_dict().items()}
    update = list_update(tensors, shared_names(network, stage), AGGREGATORS[stage.aggregate].sends)
    rule, fraction = study.round.compress, study.round.top_fraction
    if rule in FORMS:
        return Allowance(update, list_whole_slots(update, rule), list_slots(update, "none", fraction))
    payload = list_slots(update, rule, fraction)
    return Allowance(update, payload, payload)


def list_update(network: Mapping[str, npt.NDArray[Any]], shared: Iterable[str], sends: str) -> Tensors:
    """Return what an update has to look like: the shared tensors of a network and, where `sends` is the prefix of what
    is sent beside them, as many of their kind under it as are floating.
    """
    layout = {name: network[name] for name in shared}
    if sends and (taken := [name for name in network if name.startswith(sends)]):
        raise ConfigurationError(
            f"The study's aggregator sends '{sends}' beside the network, which has a tensor {taken[0]}. Choose another "
            "prefix in its line of AGGREGATORS."
        )
    floating = [name for name, array in layout.items() if np.issubdtype(array.dtype, np.floating)]
    return layout | ({sends + name: layout[name] for name in floating} if sends else {})


def _outline(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """Return an array of a tensor's shape and dtype that takes no memory."""
    return np.broadcast_to(torch.empty((), dtype=tensor.dtype, device="cpu").numpy(), tuple(tensor.shape))
