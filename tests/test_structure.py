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
FLOWER_FILES = {
    "client/app.py", "client/connect/fleet.py", "server/app.py", "server/exchange/exchange.py",
    "server/exchange/roster.py",
    "server/exchange/waiting.py",
    "server/link/superlink.py",
    "common/exchange/wire.py",
}  # fmt: skip
FLOWER_ROOM = "simulations/run/engine/"
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
# Files of the core's folders that need more: most read or write files for the shell.
SHELL_FILES = {
    "common/models/checkpoint.py": {"safetensors"},
    "simulations/phantom/picai_layout.py": {"SimpleITK"},
    "client/training/private.py": {"opacus"},  # which clips, sums and scales
}


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


def find_strays(path: Path) -> Iterator[str]:
    """Every import of a file that goes against the arrows."""
    relative = path.relative_to(ROOT)
    for module in imported(path):
        root, *rest = module.split(".")
        if (
            (root == "prostafed" and rest[0] not in ALLOWED[relative.parts[0]])
            or root in TOP  # without its brand
            or (root == "flwr" and str(relative) not in FLOWER_FILES and not str(relative).startswith(FLOWER_ROOM))
            or (root == "pydicom" and relative.parts[:2] not in DICOM_ROOMS)
        ):
            yield f"{relative} imports {module}"


def test_imports_follow_the_arrows() -> None:
    assert not [each for path in source_files() for each in find_strays(path)]


@pytest.mark.parametrize("folder", TRAINING_CORE)
def test_the_training_core_needs_torch_monai_and_numpy_only(folder: str) -> None:
    import sys

    for path in sorted((ROOT / folder).rglob("*.py")):
        relative = str(path.relative_to(ROOT))
        allowed = CORE_IMPORTS | SHELL_FILES.get(relative, set()) | set(sys.stdlib_module_names) | {"prostafed"}
        foreign = {module.split(".")[0] for module in imported(path)} - allowed
        assert not foreign, f"{relative} imports {foreign}"


def count_parameters(function: ast.FunctionDef) -> int:
    given = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return len([each for each in given if each.arg not in ("self", "cls")])


def test_no_function_of_a_site_takes_more_than_six_parameters() -> None:
    """Commands are left out: their parameters are the options a user types."""
    assert not [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in sorted((ROOT / "client").rglob("*.py"))
        if path.parent.name != "commands"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and count_parameters(node) > 6
    ]


# What writes to a disk, by the name that is called; `open` and `.open` with a mode that writes count, too.
WRITERS = {
    "write_text", "write_bytes", "save_file", "WriteImage", "tofile", "to_csv", "memmap", "fdopen", "mkdir", "makedirs",
    "mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryFile", "TemporaryDirectory", "copy", "copy2", "copyfile",
    "copytree", "move", "touch", "FileHandler", "to_filename", "symlink_to", "hardlink_to", "truncate",
}  # fmt: skip
# These take a file or a buffer: only a buffer, whose bytes go to common/shell/files.py, is fine.
SAVERS = {"savefig", "dcmwrite", "save_as", "savez", "savez_compressed", "ZipFile", "imsave"}


def find_writers(text: str) -> Iterator[str]:
    """Every call in a module's text that writes to a disk by itself."""
    tree = ast.parse(text)
    buffers = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name) and ast.unparse(node.value.func).endswith(("BytesIO", "StringIO"))
    }
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        name = ast.unparse(call.func).rpartition(".")[2]
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        to_buffer = any(isinstance(each, ast.Name) and each.id in buffers for each in given)
        # `shutil.copy` writes, `array.copy` does not; `write_text(path)` is ours, `path.write_text()` is not
        plain = name in WRITERS and (name not in ("copy", "move") or owner == "shutil")
        ours = not owner and name in ("write_text", "write_bytes")
        saves = name in SAVERS or (name == "save" and owner.rpartition(".")[2] in ("torch", "np", "onnx", "numpy"))
        saves |= name == "export" and len(call.args) > 2  # of torch.onnx: the third is the file
        modes = [each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        opens = name == "open" and any(set(mode) & set("wax+") and set(mode) <= set("rwaxbt+") for mode in modes)
        if (plain and not ours) or opens or (name == "open" and owner == "os") or (saves and not to_buffer):
            yield f"line {call.lineno}: {ast.unparse(call)[:60]}"


def test_everything_is_written_in_one_place() -> None:
    """A full disk is one sentence only where the writer knows it: write through common/shell/files.py."""
    writers = ROOT / "common/shell/files.py"
    found = {path: list(find_writers(path.read_text(encoding="utf-8"))) for path in source_files() if path != writers}
    assert not {str(path.relative_to(ROOT)): lines for path, lines in found.items() if lines}


@pytest.mark.parametrize(
    "text",
    [
        'path.write_text("a")', "Path(a).write_bytes(b)", "save_file(tensors, path)", "torch.save(state, path)",
        "figure.savefig(path)", "sitk.WriteImage(image, path)", 'open(path, "w")', 'path.open(mode="ab")',
        'open(path, "x", opener=f)', "os.open(path, flags)", "dataset.save_as(path)", "pydicom.dcmwrite(path, dataset)",
        "np.savez(path)", 'ZipFile(path, "w")', "array.tofile(file)", "tempfile.mkdtemp()", "path.mkdir()",
        "shutil.copyfile(a, b)", 'torch.onnx.export(model, inputs, "a.onnx")', 'gzip.open(path, "wb")',
    ],
)  # fmt: skip
def test_a_writer_is_found(text: str) -> None:
    assert list(find_writers(text))


@pytest.mark.parametrize(
    "text",
    [
        "write_text(path, text)", "path.open()", 'path.open("rb")', 'open(path, encoding="utf-8")', "array.copy()",
        "buffer = BytesIO()\ntorch.save(state, buffer)", "text = io.StringIO()\nfigure.savefig(text)",
    ],
)  # fmt: skip
def test_what_does_not_write_is_no_writer(text: str) -> None:
    assert not list(find_writers(text))
