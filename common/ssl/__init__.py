"""The METHODS table: every self-supervised method by name. Nothing here loads torch; `build_method` does,
when asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from prostafed.common.errors import ConfigurationError
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
    shared: tuple[str, ...]
    predictor: tuple[str, ...] = ()  # a group that may travel too, where the aggregator combines it


_PAIR = ("encoder", "projection")

METHODS: dict[str, MethodEntry] = {
    "conditional": MethodEntry("prostafed.common.ssl.conditional", settings.ConditionalParameters, _PAIR),
    "yaware": MethodEntry("prostafed.common.ssl.yaware", settings.YAwareParameters, _PAIR),
    "alignment_uniformity": MethodEntry(
        "prostafed.common.ssl.alignment_uniformity", settings.AlignmentUniformityParameters, _PAIR
    ),
    "prior_uniformity": MethodEntry("prostafed.common.ssl.prior_uniformity", settings.PriorUniformityParameters, _PAIR),
    "simclr": MethodEntry("prostafed.common.ssl.simclr", settings.SimclrParameters, _PAIR),
    "moco": MethodEntry("prostafed.common.ssl.moco", settings.MocoParameters, _PAIR),
    "byol": MethodEntry("prostafed.common.ssl.byol", settings.ByolParameters, _PAIR, ("predictor",)),
    "vicreg": MethodEntry("prostafed.common.ssl.vicreg", settings.VicregParameters, _PAIR),
    "barlow": MethodEntry("prostafed.common.ssl.barlow", settings.BarlowParameters, _PAIR),
    "restore": MethodEntry("prostafed.common.ssl.restore", settings.RestoreParameters, ("encoder",)),
    "sparse": MethodEntry("prostafed.common.ssl.sparse", settings.SparseParameters, ("encoder",)),
}


def build_method(name: str, parameters: Settings) -> Method:
    """Return the Method that METHODS lists under `name`, with `parameters` of the class the table names; raises
    ConfigurationError where the entry does not fit its module.
    """
    entry = METHODS[name]
    try:
        method = cast("Method", import_module(entry.module).build(parameters))
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"The method '{name}' needs a module {entry.module} with build(parameters): {error}. Correct its line in "
            "METHODS."
        ) from error
    if lacking := {*entry.shared, *entry.predictor} - {"encoder", *method.heads}:
        raise ConfigurationError(
            f"The method '{name}' shares {', '.join(sorted(lacking))}, and its heads are {', '.join(method.heads)}. "
            "Correct its line in METHODS, or its heads."
        )
    if getattr(parameters, "learned_transforms", False):
        transforms = import_module("prostafed.common.ssl.transforms")
        return cast("Method", transforms.learn_transforms(method))
    return method
