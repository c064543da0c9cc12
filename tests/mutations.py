"""Code without one of its checks, in this process, so that a test which keeps the check must fail.

The points are found in the source: each `raise`, each problem that a check returns, and each call of something that
checks or writes down.
"""

import ast
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

Test = Callable[[Path], object]  # it gets an empty folder
Point = tuple[str, str, int]  # module, function, and which of its checks


@dataclass(frozen=True)
class Kind:
    """What is taken out, beside each `raise`."""

    calls: frozenset[str]  # statements that call one of these
    around: Mapping[str, int]  # calls in whose place this argument stays
    returned: Callable[[str], bool] = lambda function: False  # functions that return a problem, "" for none

    def is_point(self, node: ast.AST, function: str) -> bool:
        """Return whether something is refused here, or what refuses is called."""
        match node:
            case ast.Raise(exc=ast.expr()):
                return True
            case ast.Expr(value=ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name))):
                return name in self.calls
            case ast.Call(func=ast.Name(id=name)):
                return name in self.around
            case ast.Return(value=ast.expr()) if self.returned(function):
                return ast.unparse(node) != "return ''"
        return False


class TakeOut(ast.NodeTransformer):
    """Takes the `number`-th check out of a function: a problem becomes none, any other statement nothing."""

    def __init__(self, kind: Kind, function: str, number: int) -> None:
        self.kind, self.function, self.left = kind, function, number

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if self.kind.is_point(node, self.function):
            self.left -= 1
            if self.left == -1:
                if isinstance(node, ast.Call):
                    assert isinstance(node.func, ast.Name)
                    return node.args[self.kind.around[node.func.id]]
                empty = ast.Return(ast.Constant("")) if isinstance(node, ast.Return) else ast.Pass()
                return ast.copy_location(empty, node)
        return super().generic_visit(node)


def list_points(module: str, kind: Kind, functions: Sequence[str] | None = None) -> Iterator[Point]:
    """Yield the points of a module of ours, of all its functions and methods or of `functions`."""
    for name, node in _list_functions(module):
        if functions is None or name in functions:
            count = sum(kind.is_point(inner, node.name) for inner in ast.walk(node))
            yield from ((module, name, number) for number in range(count))


@contextmanager
def taking_out(point: Point, kind: Kind) -> Iterator[None]:
    """Run without one check."""
    module, function, number = point
    owner: Any = importlib.import_module(f"prostafed.{module}")
    for part in function.split("."):
        owner = getattr(owner, part)
    changed = getattr(owner, "__func__", owner)
    node = dict(_list_functions(module))[function]
    code, changed.__code__ = changed.__code__, _compile_without(node, kind, number)
    try:
        yield
    finally:
        changed.__code__ = code


def fails(test: Test, folder: Path) -> bool:
    """Return whether a test fails in a new folder."""
    folder.mkdir()
    try:
        test(folder)
    except BaseException as error:  # pytest's own are no Exceptions
        if isinstance(error, KeyboardInterrupt):
            raise
        return True
    return False


def _list_functions(module: str) -> list[tuple[str, ast.FunctionDef]]:
    path = Path(importlib.import_module(f"prostafed.{module}").__file__ or "")
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.append((node.name, node))
        elif isinstance(node, ast.ClassDef):
            inner = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            found += [(f"{node.name}.{each.name}", each) for each in inner]
    return found


def _compile_without(node: ast.FunctionDef, kind: Kind, number: int) -> CodeType:
    node.decorator_list = []
    alone = ast.Module([TakeOut(kind, node.name, number).visit(node)], [])
    code = compile(ast.fix_missing_locations(alone), f"<{node.name} without check {number}>", "exec")
    return next(each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == node.name)
