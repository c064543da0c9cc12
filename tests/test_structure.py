"""The packages that are installed are those that exist, and imports follow the arrows of the architecture."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP = ("client", "common", "server", "simulations")
ALLOWED = {
    "common": {"common"},
    "client": {"common", "client"},
    "server": {"common", "server"},
    "simulations": {"common", "client", "server", "simulations"},
}
FLOWER_ROOMS = {"app.py", "worker.py", "rounds.py", "wire.py"}
DICOM_ROOMS = {("client", "ingest"), ("client", "predict"), ("simulations", "dicom")}
TRAINING_CORE = (
    "common/models",
    "common/ssl",
    "common/tasks",
    "common/metrics",
    "client/training",
    "simulations/phantom",
)
CORE_IMPORTS = {"torch", "monai", "numpy"}
# Files of the core's folders that read or write files for the shell.
SHELL_FILES = {"common/models/checkpoint.py": {"safetensors"}, "simulations/phantom/picai_layout.py": {"SimpleITK"}}


def source_files() -> list[Path]:
    return sorted(path for top in TOP for path in (ROOT / top).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module a file imports, also inside functions; imports for type checkers only are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checking = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in checking:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""


def test_the_list_of_packages_names_every_folder() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {
        f"prostafed.{'.'.join(path.parent.relative_to(ROOT).parts)}"
        for path in source_files()
        if path.name == "__init__.py"
    }
    holding = {f"prostafed.{'.'.join(path.parent.relative_to(ROOT).parts)}" for path in source_files()}
    assert listed == folders
    assert holding == folders, "a folder with modules has no __init__.py"


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    relative = path.relative_to(ROOT)
    for module in imported(path):
        root, *rest = module.split(".")
        if root == "prostafed":
            assert rest[0] in ALLOWED[relative.parts[0]], f"{relative} imports {module}"
        assert root not in TOP, f"{relative} imports {module} without its brand"
        if root == "flwr":
            assert path.name in FLOWER_ROOMS or "engine" in relative.parts, f"{relative} imports {module}"
        if root == "pydicom":
            assert relative.parts[:2] in DICOM_ROOMS, f"{relative} imports {module}"


@pytest.mark.parametrize("folder", TRAINING_CORE)
def test_the_training_core_needs_torch_monai_and_numpy_only(folder: str) -> None:
    import sys

    for path in sorted((ROOT / folder).rglob("*.py")):
        relative = str(path.relative_to(ROOT))
        allowed = CORE_IMPORTS | SHELL_FILES.get(relative, set()) | set(sys.stdlib_module_names) | {"prostafed"}
        foreign = {module.split(".")[0] for module in imported(path)} - allowed
        assert not foreign, f"{relative} imports {foreign}"
