"""The METHODS table: every self-supervised method by name. Nothing here loads torch; `build_method` does,
when asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from prostafed.common.settings import Settings
from prostafed.common.ssl.parameters import ConditionalParameters, RestoreParameters

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


METHODS: dict[str, MethodEntry] = {
    "conditional": MethodEntry("conditional", ConditionalParameters, "contrastive", ("encoder", "projection")),
    "restore": MethodEntry("restore", RestoreParameters, "restoration", ("encoder",)),
}


def build_method(name: str, parameters: Settings) -> Method:
    """Return the Method that METHODS lists under `name`, with `parameters` of the class the table names."""
    module = import_module(f"prostafed.common.ssl.{METHODS[name].module}")
    return cast("Method", module.build(parameters))
