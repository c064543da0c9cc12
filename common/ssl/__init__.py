"""The METHODS table: every self-supervised method by name. Nothing here loads torch; `build_method` does,
when asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from prostafed.common.settings import Settings
from prostafed.common.ssl import parameters as settings

if TYPE_CHECKING:
    from prostafed.common.ssl.method import Method


@dataclass(frozen=True)
class MethodEntry:
    """One line of the table: the module whose `build(parameters)` returns the Method, and what a study may
    say of it.
    """

    module: str
    parameters: type[Settings]
    family: str
    shared: tuple[str, ...]
    predictor: tuple[str, ...] = ()  # a group that may travel too, where the aggregator combines it


_PAIR = ("encoder", "projection")

METHODS: dict[str, MethodEntry] = {
    "conditional": MethodEntry(
        "prostafed.common.ssl.conditional", settings.ConditionalParameters, "contrastive", _PAIR
    ),
    "yaware": MethodEntry("prostafed.common.ssl.yaware", settings.YAwareParameters, "contrastive", _PAIR),
    "alignment_uniformity": MethodEntry(
        "prostafed.common.ssl.alignment_uniformity", settings.AlignmentUniformityParameters, "contrastive", _PAIR
    ),
    "prior_uniformity": MethodEntry(
        "prostafed.common.ssl.prior_uniformity", settings.PriorUniformityParameters, "contrastive", _PAIR
    ),
    "simclr": MethodEntry("prostafed.common.ssl.simclr", settings.SimclrParameters, "contrastive", _PAIR),
    "moco": MethodEntry("prostafed.common.ssl.moco", settings.MocoParameters, "contrastive", _PAIR),
    "byol": MethodEntry(
        "prostafed.common.ssl.byol", settings.ByolParameters, "without negatives", _PAIR, ("predictor",)
    ),
    "vicreg": MethodEntry("prostafed.common.ssl.vicreg", settings.VicregParameters, "without negatives", _PAIR),
    "barlow": MethodEntry("prostafed.common.ssl.barlow", settings.BarlowParameters, "without negatives", _PAIR),
    "restore": MethodEntry("prostafed.common.ssl.restore", settings.RestoreParameters, "restoration", ("encoder",)),
    "sparse": MethodEntry("prostafed.common.ssl.sparse", settings.SparseParameters, "restoration", ("encoder",)),
}


def build_method(name: str, parameters: Settings) -> Method:
    """Return the Method that METHODS lists under `name`, with `parameters` of the class the table names."""
    module = import_module(METHODS[name].module)
    method = cast("Method", module.build(parameters))
    if getattr(parameters, "learned_transforms", False):
        transforms = import_module("prostafed.common.ssl.transforms")
        return cast("Method", transforms.learn_transforms(method))
    return method
