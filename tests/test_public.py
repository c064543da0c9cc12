"""What stands in `__all__` of the three packages is documented and typed, nothing else is public, and torch waits."""

import importlib
import inspect
import subprocess
import sys
import types
import typing

import pytest

PACKAGES = {
    "prostafed.client": {"Site", "index_studies", "predict_studies", "read_site_file"},
    "prostafed.server": {"export_run", "summary_table", "write_report"},
    "prostafed.simulations": {"Run", "open_run", "simulate"},
}


def list_functions(value: object) -> list[typing.Any]:
    """A function itself; of a class, the functions behind the public methods and properties it defines."""
    members = [value] if inspect.isfunction(value) else [each for name, each in vars(value).items() if name[0] != "_"]
    functions = [getattr(each, "func", getattr(each, "fget", each)) for each in members]
    return list(filter(inspect.isfunction, functions))


@pytest.mark.parametrize("name", PACKAGES)
def test_the_public_names_are_documented_and_typed(name: str) -> None:
    package = importlib.import_module(name)
    assert list(package.__all__) == sorted(PACKAGES[name])
    assert package.__doc__
    for public in package.__all__:
        value = getattr(package, public)
        assert inspect.getdoc(value), f"{name}.{public}"
        for function in list_functions(value):
            assert inspect.getdoc(function), function
            parameters = inspect.signature(function).parameters.values()
            assert len(parameters) <= 6, function
            assert all(each.annotation is not each.empty for each in parameters if each.name not in ("self", "cls"))
            assert inspect.signature(function).return_annotation is not inspect.Signature.empty, function


@pytest.mark.parametrize("name", PACKAGES)
def test_nothing_else_is_defined_in_public(name: str) -> None:
    package = importlib.import_module(name)
    defined = {
        each for each, value in vars(package).items()
        if getattr(value, "__module__", "") == name and not each.startswith("_")
        and not isinstance(value, types.ModuleType)
    }  # fmt: skip
    assert defined <= set(package.__all__)


@pytest.mark.parametrize("name", PACKAGES)
def test_importing_and_looking_loads_no_torch(name: str) -> None:
    code = f"import sys; from {name} import *; print(sorted({{'torch', 'flwr', 'matplotlib'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
