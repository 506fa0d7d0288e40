"""Python files as syntax trees: what they import, what their imports reach, which texts they hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path

_IMPORT_PATH = ("src", "client", ".")
_BY_NAME = ("importlib.import_module", "import_module", "__import__")
COMPUTED = "<computed>"
"""Stands for the module of an import whose name is only known when it runs."""


@dataclass(frozen=True)
class Import:
    """One import statement, wherever it stands; `chain` are the modules that lead to it."""

    module: str
    file: str
    line: int
    chain: tuple[str, ...] = ()

    def is_of(self, *names: str) -> bool:
        """Tell whether it imports one of these modules, or something inside of one."""
        return any(self.module == name or self.module.startswith(f"{name}.") for name in names)


def server_files(root: Path) -> list[Path]:
    """Return the Python files that a server may run: those of src/serving without `offline`."""
    offline = root / "src" / "serving" / "offline"
    return [file for file in python_files(root, "src/serving") if offline not in file.parents]


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


def imports(root: Path, file: Path) -> Iterator[Import]:
    """Give every import of a file: at the top, inside functions, and by `importlib`."""
    name = file.relative_to(root).as_posix()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = _package(root, file, node.level) if node.level else ""
            base = ".".join(part for part in (package, node.module) if part)
            yield Import(base, name, node.lineno)
            yield from (Import(f"{base}.{alias.name}", name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in _BY_NAME:
            text = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else COMPUTED
            yield Import(str(text), name, node.lineno)


def reachable(root: Path, start: str) -> list[Import]:
    """Return every import that can run once the module `start` has been imported."""
    found: list[Import] = []
    seen: set[Path] = set()
    waiting: list[tuple[str, tuple[str, ...]]] = [(start, (start,))]
    while waiting:
        module, chain = waiting.pop(0)
        file = _file_of(root, module)
        if file is None or file in seen:
            continue
        seen.add(file)
        for statement in imports(root, file):
            found.append(Import(statement.module, statement.file, statement.line, chain))
            parts = statement.module.split(".")
            names = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]  # importing a.b runs a as well
            waiting += [(name, (*chain, name)) for name in names]
    return found


def texts(tree: ast.Module) -> Iterator[tuple[int, str, ast.Constant]]:
    """Give every text in a module that is data: no docstrings."""
    notes = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in notes:
            yield node.lineno, node.value, node


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Give every function and method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def calls(tree: ast.AST, *names: str) -> Iterator[ast.Call]:
    """Give every call of something of these names, whatever it is a part of."""
    for node in ast.walk(tree):
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


def _file_of(root: Path, module: str) -> Path | None:
    """Return where a module of this repo lies; None for everything that is installed."""
    for folder in _IMPORT_PATH:
        path = root.joinpath(folder, *module.split("."))
        for candidate in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if module != COMPUTED and candidate.is_file():
                return candidate
    return None


def _package(root: Path, file: Path, level: int) -> str:
    """Return the package that `level` dots stand for in a file."""
    for folder in _IMPORT_PATH:
        if file.is_relative_to(root / folder):
            parts = file.relative_to(root / folder).parent.parts
            return ".".join(parts[: len(parts) - level + 1])
    return ""
