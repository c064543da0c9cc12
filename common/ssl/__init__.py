"""Self-supervised methods. Nothing here loads torch; `build_method` does, when asked."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from prostafed.common.errors import ConfigurationError
from prostafed.common.settings import Settings
from prostafed.common.ssl.methods import METHODS, MethodEntry

if TYPE_CHECKING:
    from prostafed.common.ssl.method import Method

__all__ = ["METHODS", "MethodEntry", "build_method"]


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
