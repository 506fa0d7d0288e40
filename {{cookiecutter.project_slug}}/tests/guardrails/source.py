"""Python files as syntax trees: what they import, and which texts they hold."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path

REGISTRY = "src/serving/adapters/model_registry"
_BY_NAME = ("import_module", "__import__")
COMPUTED = "<computed>"
"""Stands for the module of an import whose name is only known when it runs."""


@dataclass(frozen=True)
class Import:
    """One import statement, wherever it stands."""

    module: str
    file: str
    line: int


def server_files(root: Path) -> list[Path]:
    """Return the Python files that a server may run: those of src/serving without what trains."""
    others = {root / "src" / "serving" / name for name in ("modeling", "offline")}
    return [file for file in python_files(root, "src/serving") if others.isdisjoint(file.parents)]


def python_files(root: Path, *folders: str) -> list[Path]:
    """Return the Python files below these folders, without generated ones."""
    found = {file for folder in folders for file in (root / folder).rglob("*.py")}
    return sorted(file for file in found if not file.stem.endswith(("_pb2", "_pb2_grpc")))


@cache
def parsed(file: Path, _modified_ns: int) -> ast.Module:
    """Return the tree of a file as it was at that time."""
    text = file.read_text(encoding="utf-8")
    with suppress(SystemError):  # CPython 3.11.7 raises it now and then, for a file that it reads the next time
        return ast.parse(text, str(file))
    return ast.parse(text, str(file))


def tree_of(file: Path) -> ast.Module:
    """Return the tree of a file."""
    return parsed(file, file.stat().st_mtime_ns)


@cache
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """Return the tree's nodes; several guards ask for them, and walking takes longer than all that they look for."""
    return tuple(ast.walk(tree))


def imports(root: Path, file: Path) -> Iterator[Import]:
    """Give every import of a file: at the top, inside functions, and by `importlib`."""
    for node in nodes(tree_of(file)):
        modules: list[object] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = file.relative_to(root).parts[1 : -node.level] if node.level else ()  # without src/ or client/
            base = ".".join([*package, *([node.module] if node.module else [])])
            modules = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and last_name(node.func) in _BY_NAME:
            modules = [node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else COMPUTED]
        for module in modules:
            yield Import(str(module), file.relative_to(root).as_posix(), node.lineno)


def server_imports(root: Path) -> list[Import]:
    """Return every import of what the server runs; guards forbid it the rest of this repo, so no detour leads there."""
    files = [file for file in server_files(root) if root / REGISTRY not in file.parents]
    return [each for file in files for each in imports(root, file)]


def of_modules(found: Iterable[Import], *names: str) -> list[Import]:
    """Return the imports of these modules, or of something inside of one: one for each line."""
    wanted = (each for each in found if any(f"{each.module}.".startswith(f"{name}.") for name in names))
    return list({(each.file, each.line): each for each in wanted}.values())


def allowed(root: Path, what: str) -> frozenset[str]:
    """Return what this repo's model runtime may do: `frameworks` or `unpickles` of runtime.toml."""
    file = root / "tests" / "guardrails" / "runtime.toml"
    return frozenset(tomllib.loads(file.read_text(encoding="utf-8"))[what])


def texts(tree: ast.Module) -> Iterator[tuple[int, str, ast.Constant]]:
    """Give every text in a module that is data: no docstrings."""
    notes = {id(node.value) for node in nodes(tree) if isinstance(node, ast.Expr)}
    for node in nodes(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in notes:
            yield node.lineno, node.value, node


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Give every function and method."""
    for node in nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def calls(tree: ast.AST, *names: str) -> Iterator[ast.Call]:
    """Give every call of something of these names, whatever it is a part of."""
    for node in nodes(tree):
        if isinstance(node, ast.Call) and last_name(node.func) in names:
            yield node


def last_name(node: ast.AST) -> str:
    """Return the last part of a name with dots: of `grpc.aio.server`, server."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def requirements(root: Path, path: str) -> Iterator[tuple[str, int, str]]:
    """Give the normal name, the line and the text of each entry of a requirements file."""
    file = root / path
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    for number, line in enumerate(lines, start=1):
        name = "".join(takewhile(lambda character: character.isalnum() or character in "-_.", line))
        if name and not line.startswith((" ", "-")):
            yield name.lower().replace("_", "-").replace(".", "-"), number, line
