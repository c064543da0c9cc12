"""Measures the structure of the source tree. It holds no threshold and asserts nothing.

    python tests/house.py [--root FOLDER | --revision REVISION] [--names] [--json]

What is read: every .py file under client, common, server and simulations. `--revision` measures a revision of the
repository at --root, so that one script measures before and after. `--names` lists what was counted.

modules, lines    files; their lines; of those the code lines, neither blank nor comment nor docstring; median per file
longest function  the function with the most lines, its docstring counted, its decorators not
wide functions    functions with more than six parameters, keyword-only ones counted, self and cls not
docstrings        share of public classes, functions and methods, those inside functions left out, with a docstring
loose files       files that stand in a top folder itself, __init__.py not counted
rooms             folders right below a top folder, each with all below it, and each loose file
doors             files that at least one other room imports; `from package import name` is the package's __init__.py
                  unless the name is a module. What is imported by a name put together at run time is not seen
arrows            ordered pairs (room, other room) with an import, inside functions too, for type checkers only not
circles           sets of more than one room each of which reaches all others of the set over arrows
hops              distinct files on three shortest chains of imports: from the file of client that imports Flower's
                  ClientApp to one of client that calls `.backward()`; from the file of server that imports ServerApp to
                  one of server that calls `.pull_messages(`; and from that of ServerApp to one of server that calls all
                  of an aggregator's functions, `.init(`, `.add(`, `.finish(`. Imports for annotations alone, of
                  dataclasses and of constants hand no work on and are left out. A lower bound of what an update passes:
                  what else a file of a chain calls is not in it
stage lookups     source lines that subscript an attribute called `stage`
stage forks       source lines that ask isinstance, or match, whether a stage is Pretrain or Finetune
files per entry   for each entry of a table, the files that belong to it or use it: its own module, which is named as
                  the entry, or by this entry alone, in the table's folder or a folder with modules of two entries; the
                  file of a class that this entry's line alone names; and every file with a string literal equal to the
                  entry's name, no other use. A name that is a common word is counted in its other meanings too, and so
                  is one that stands in two tables: --names says where each was found
twice             names of classes that are defined more than once
"""

import argparse
import ast
import io
import json
import statistics
import subprocess
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
TOP = ("client", "common", "server", "simulations")
TABLES = ("METHODS", "AGGREGATORS", "TASKS", "ENCODERS", "DATASETS")
BRAND = "prostafed."
STAGES = {"Pretrain", "Finetune"}
MOST_PARAMETERS = 6

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A source file; `path` is relative to the root."""

    path: PurePosixPath
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """Dotted, without the brand; a package's for its __init__.py."""
        return ".".join(self.path.with_suffix("").parts).removesuffix(".__init__")

    @property
    def room(self) -> str:
        return "/".join(self.path.with_suffix("").parts[:2]).removesuffix("/__init__")


@dataclass(frozen=True)
class Figure:
    """A line of the table, and what was counted for it."""

    name: str
    values: Mapping[str, float | str]
    counted: Sequence[str] = ()


def measure(root: Path) -> list[Figure]:
    """Return the figures of the checkout at `root`."""
    modules = list(read_modules(root))
    figures = [*measure_sizes(modules), *measure_rooms(modules)]
    chains = find_hops(modules)
    hops = len({name for chain in chains for name in chain}) if all(chains) else "an end was not found"
    figures.append(Figure("hops", {"all": hops}, [" > ".join(chain) for chain in chains]))
    figures += [
        count("stage lookups", find_lines(modules, is_lookup)),
        count("stage forks", find_lines(modules, is_fork)),
    ]
    for table in TABLES:
        uses = find_uses(table, modules)
        most = max(uses, key=lambda name: len(uses[name]), default="")
        median = statistics.median(len(paths) for paths in uses.values()) if uses else 0
        values = {"entries": len(uses), "median": median, "most": len(uses.get(most, ())), "of": most}
        listed = [f"{name} {len(paths)}: {', '.join(paths)}" for name, paths in uses.items()]
        figures.append(Figure(f"files per entry of {table}", values, listed))
    twice = [f"{name}: {', '.join(paths)}" for name, paths in find_twice(modules).items()]
    return [*figures, Figure("twice", {"all": len(twice)}, twice)]


def measure_sizes(modules: Sequence[Module]) -> list[Figure]:
    """What can be counted without looking at imports."""
    lines = [len(module.text.splitlines()) for module in modules]
    functions = sorted(each for module in modules for each in list_functions(module))
    longest = max(functions, key=lambda each: each[1], default=("", 0, 0))
    public = [node for module in modules for node in list_public(module.tree)]
    documented = sum(ast.get_docstring(node) is not None for node in public)
    loose = [str(each.path) for each in modules if len(each.path.parts) == 2 and each.path.name != "__init__.py"]
    code = sum(count_code(module) for module in modules)
    return [
        Figure("modules", {"all": len(modules)}),
        Figure("lines", {"all": sum(lines), "code": code, "median": statistics.median(lines or [0])}),
        Figure("longest function", {"lines": longest[1], "of": longest[0]}),
        count("wide functions", [f"{name} {wide}" for name, _, wide in functions if wide > MOST_PARAMETERS]),
        Figure("docstrings", {"public": len(public), "with": documented}),
        count("loose files", loose),
    ]


def measure_rooms(modules: Sequence[Module]) -> list[Figure]:
    """Rooms, doors, arrows and circles."""
    rooms = {module.name: module.room for module in modules}
    imports = {module.name: find_imports(module, rooms.keys()) for module in modules}
    crossing = [(a, b) for a, found in imports.items() for b in found if rooms[a] != rooms[b]]
    arrows, entered = {(rooms[a], rooms[b]) for a, b in crossing}, {b for _, b in crossing}
    doors = [str(module.path) for module in modules if module.name in entered]
    circles = [", ".join(circle) for circle in find_circles(arrows)]
    folders = sum(door.count("/") > 1 for door in doors)
    return [
        Figure("rooms", {"all": len(set(rooms.values()))}, sorted(set(rooms.values()))),
        Figure("doors", {"all": len(doors), "of folders": folders}, doors),
        Figure("arrows", {"all": len(arrows)}, [f"{a} -> {b}" for a, b in sorted(arrows)]),
        Figure("circles", {"all": len(circles)}, circles),
    ]


def count(name: str, places: Sequence[str]) -> Figure:
    """The number of places, each of which begins with a path: all, and those of the client."""
    return Figure(name, {"all": len(places), "client": sum(each.startswith("client/") for each in places)}, places)


def read_modules(root: Path) -> Iterator[Module]:
    """Every source file, in the order of their paths."""
    for path in sorted(path for top in TOP for path in (root / top).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield Module(PurePosixPath(path.relative_to(root).as_posix()), text, ast.parse(text))


def count_code(module: Module) -> int:
    """Lines that are neither blank nor comment nor part of a docstring."""
    documented: set[int] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, Definition | ast.Module) and ast.get_docstring(node) is not None:
            documented.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(module.text.splitlines(), start=1)
    return sum(bool(line.strip()) and line.strip()[0] != "#" and number not in documented for number, line in lines)


def list_functions(module: Module) -> Iterator[tuple[str, int, int]]:
    """Each function's "path:name", lines and parameters."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            plain = [each.arg for each in (*given.posonlyargs, *given.args)]
            parameters = len(plain) + len(given.kwonlyargs) + bool(given.vararg) + bool(given.kwarg)
            parameters -= bool(plain) and plain[0] in ("self", "cls")
            yield f"{module.path}:{node.name}", (node.end_lineno or 0) - node.lineno + 1, parameters


def list_public(node: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    """Public classes and functions of a module, and public methods of those classes."""
    for inner in node.body:
        if isinstance(inner, Definition) and not inner.name.startswith("_"):
            yield inner
            if isinstance(inner, ast.ClassDef):
                yield from list_public(inner)


def list_aliases(module: Module) -> Iterator[tuple[str, str, str]]:
    """What is imported at run time: the module named, the name taken from it or "", what it is called here."""
    checking = {
        id(inner)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for each in node.body
        for inner in ast.walk(each)
    }
    for node in ast.walk(module.tree):
        if id(node) not in checking and isinstance(node, ast.Import):
            yield from ((alias.name, "", alias.asname or alias.name) for alias in node.names)
        elif id(node) not in checking and isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name, alias.asname or alias.name) for alias in node.names)


def find_imports(
    module: Module, names: Set[str], used: Set[str] | None = None, inert: Set[str] = frozenset()
) -> set[str]:
    """Those of the modules called `names` that a module imports; but for the imports of what is not among `used`,
    where that is given, or is among `inert`.
    """
    found = set()
    for whole, name, called in list_aliases(module):
        target = f"{whole}.{name}".strip(".").removeprefix(BRAND)
        wanted = target not in inert and (used is None or called.partition(".")[0] in used)
        if whole.startswith(BRAND.strip(".")) and wanted:
            found.add(target if target in names else whole.removeprefix(BRAND))
    return (found & names) - {module.name}


def find_circles(arrows: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The strongly connected sets of more than one room."""
    following: defaultdict[str, set[str]] = defaultdict(set)
    for a, b in arrows:
        following[a].add(b)
    reached: dict[str, set[str]] = {}
    for room in list(following):
        seen, waiting = set[str](), [room]
        while waiting:
            new = following.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        reached[room] = seen
    circles = {frozenset(b for b in found if a in reached.get(b, ())) for a, found in reached.items() if a in found}
    return sorted(sorted(circle) for circle in circles)


def find_hops(modules: Sequence[Module]) -> list[list[str]]:
    """The three chains, as the head of this file defines them; one is [] where an end of it was not found."""
    inert = {f"{module.name}.{name}" for module in modules for name in list_inert(module)}
    imports: dict[str, set[str]] = {}
    shells: defaultdict[str, set[str]] = defaultdict(set)  # "top folder, what of Flower is imported" -> modules
    calls: defaultdict[str, set[str]] = defaultdict(set)  # "top folder, method that is called" -> modules
    for module in modules:
        top = module.path.parts[0]
        imports[module.name] = find_imports(module, {each.name for each in modules}, list_used(module.tree), inert)
        for whole, name, _ in list_aliases(module):
            if whole.startswith("flwr."):
                shells[f"{top} {name}"].add(module.name)
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                calls[f"{top} {node.func.attr}"].add(module.name)
                if not node.args:
                    calls[f"{top} {node.func.attr}()"].add(module.name)
    combining = calls["server init"] & calls["server add"] & calls["server finish"]
    return [
        find_chain(shells["client ClientApp"], calls["client backward()"], imports),
        find_chain(shells["server ServerApp"], calls["server pull_messages"], imports),
        find_chain(shells["server ServerApp"], combining, imports),
    ]


def list_inert(module: Module) -> set[str]:
    """Names of a module that do no work: dataclasses and what is assigned."""
    classes = [node for node in module.tree.body if isinstance(node, ast.ClassDef)]
    records = {node.name for node in classes if any("dataclass" in ast.unparse(each) for each in node.decorator_list)}
    return records | list_assigned(module).keys()


def list_used(tree: ast.Module) -> set[str]:
    """Names that stand anywhere but in an annotation."""
    notes = [getattr(node, field, None) for node in ast.walk(tree) for field in ("annotation", "returns")]
    left_out = {id(inner) for note in notes if isinstance(note, ast.AST) for inner in ast.walk(note)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in left_out}


def find_chain(starts: set[str], ends: set[str], imports: Mapping[str, set[str]]) -> list[str]:
    """The shortest chain of imports from one of `starts` to one of `ends`; [] where there is none."""
    chains, seen = [[start] for start in sorted(starts)], set(starts)
    for chain in chains:  # grows while it is read
        if chain[-1] in ends:
            return chain
        for name in sorted(imports[chain[-1]] - seen):
            seen.add(name)
            chains.append([*chain, name])
    return []


def is_lookup(node: ast.AST) -> bool:
    """Whether a node is `x.stage[...]`."""
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "stage"


def is_fork(node: ast.AST) -> bool:
    """Whether a node is an isinstance, or a case of a match, of a stage's class."""
    if isinstance(node, ast.MatchClass):
        return bool(list_identifiers(node.cls) & STAGES)
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"
    return called and isinstance(node, ast.Call) and bool(list_identifiers(node.args[-1]) & STAGES)


def list_identifiers(node: ast.AST) -> set[str]:
    """Every name that stands in a node, dotted ones by their last part too."""
    found = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    return found | {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}


def find_lines(modules: Iterable[Module], wanted: Callable[[ast.AST], bool]) -> list[str]:
    """The source lines, as "path:line", on which a wanted node begins."""
    nodes = ((module, node) for module in modules for node in ast.walk(module.tree))
    lines = {(str(module.path), getattr(node, "lineno", 0)) for module, node in nodes if wanted(node)}
    return [f"{path}:{line}" for path, line in sorted(lines)]


def find_uses(table: str, modules: Sequence[Module]) -> dict[str, list[str]]:
    """The files that belong to each entry of a table, or use it."""
    home = next((module for module in modules if table in list_assigned(module)), None)
    if home is None:
        return {}
    entries = list_entries(home, list_assigned(home)[table], modules)
    literals = {module.path: list_literals(module.tree) for module in modules}
    classes = {
        module.path: {node.name for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)}
        for module in modules
    }
    named = {name: list_literals(value) | list_identifiers(value) | {name} for name, value in entries.items()}
    shared = Counter(word for words in named.values() for word in words)
    stems = Counter(module.path.parent for module in modules if spell(module.path.stem) in map(spell, entries))
    folders = {home.path.parent, *(folder for folder, count in stems.items() if count > 1)}
    uses = {}
    for name in entries:
        own = {word for word in named[name] if shared[word] == 1} | {name}
        uses[name] = [
            str(path)
            for path in literals
            if name in literals[path]
            or own & classes[path]
            or (path.parent in folders and path.stem in map(spell, own))
        ]
    return uses


def spell(name: str) -> str:
    """A name as a module spells it."""
    return name.replace("-", "_")


def list_literals(tree: ast.AST) -> set[str]:
    """Whole string literals, pieces of f-strings left out."""
    pieces = {id(piece) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for piece in node.values}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in pieces]
    return {node.value for node in constants if isinstance(node.value, str)}


def list_assigned(module: Module) -> dict[str, ast.expr]:
    """What is assigned to a name at a module's top level."""
    found: dict[str, ast.expr] = {}
    for node in module.tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node.value for target in targets if isinstance(target, ast.Name)}
    return found


def list_entries(home: Module, value: ast.expr, modules: Sequence[Module]) -> dict[str, ast.expr]:
    """The entries of a table, each with what is said of it: the keys of a dict literal; else the records that the
    expression names, each by its `name` or first string; else the modules of the table's package, nothing said.
    """
    if isinstance(value, ast.Dict) and all(isinstance(key, ast.Constant) for key in value.keys):
        pairs = zip(value.keys, value.values, strict=True)
        return {str(key.value): said for key, said in pairs if isinstance(key, ast.Constant)}
    assigned = {module.name: list_assigned(module) for module in modules}
    meant: dict[str, str] = {name: f"{home.name}.{name}" for name in assigned[home.name]}
    meant |= {called: f"{whole}.{name}".strip(".").removeprefix(BRAND) for whole, name, called in list_aliases(home)}
    entries: dict[str, ast.expr] = {}
    for node in ast.walk(value):
        if isinstance(node, ast.Name | ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            owner, _, name = f"{meant.get(first, first)}.{rest}".strip(".").rpartition(".")
            record = assigned.get(owner, {}).get(name)
            if isinstance(record, ast.Call):
                given = [each.value for each in record.keywords if each.arg == "name"] + record.args
                names = [each.value for each in given if isinstance(each, ast.Constant)]
                entries |= {each: record for each in names[:1] if isinstance(each, str)}
    beside = [module.path for module in modules if module.path.parent == home.path.parent]
    return entries or {path.stem: ast.Constant(None) for path in beside if path.name != "__init__.py"}


def find_twice(modules: Iterable[Module]) -> dict[str, list[str]]:
    """Names of classes that are defined more than once, each with its files."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(module.path))
    return {name: paths for name, paths in sorted(found.items()) if len(paths) > 1}


def measure_revision(root: Path, revision: str) -> list[Figure]:
    """The figures of a revision of the repository at `root`."""
    archive = subprocess.run(["git", "-C", root, "archive", revision], check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
        return measure(Path(folder))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout")
    parser.add_argument("--revision", help="of the repository at --root, instead of what stands there now")
    parser.add_argument("--names", action="store_true", help="list what was counted")
    parser.add_argument("--json", action="store_true", help="print figures and names as one JSON object")
    asked = parser.parse_args()
    figures = measure_revision(asked.root, asked.revision) if asked.revision else measure(asked.root)
    if asked.json:
        print(json.dumps({each.name: {**each.values, "counted": list(each.counted)} for each in figures}))
        return
    for each in figures:
        print(f"{each.name:<30} {', '.join(f'{name} {value}' for name, value in each.values.items())}")
        for line in each.counted if asked.names else ():
            print(f"    {line}")


if __name__ == "__main__":
    main()
