"""Run batch scoring in this process, on a small model and a store in memory."""

from __future__ import annotations

import asyncio
import csv
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from serving.adapters.feature_store import READERS
from serving.offline import project
from serving.offline.score.__main__ import main
from serving.offline.score.run import Options, Summary, run
from serving.online import memory
from tests.platform.support.artifacts import Model
from tests.platform.support.fakes import FakeStore
from tests.platform.support.workspace import THIS_REPO, environment

OUTPUT = "out.parquet"
KEYS, VALUES = ["a", "b", "nobody"], [10.0, 20.0, 30.0]


@dataclass(frozen=True)
class Job:
    """Score files in a folder that has a model."""

    folder: Path

    def run(self, *inputs: str, output: str = OUTPUT, **options: Any) -> Summary:
        """Score files to the end; paths are relative to the folder."""
        given = Options(list(inputs), Path(output))
        return asyncio.run(run(replace(given, **options)))

    def table(self, output: str = OUTPUT) -> dict[str, list[Any]]:
        """Return the columns of the output."""
        columns: dict[str, list[Any]] = read_table(self.folder / output).to_pydict()
        return columns

    def refused(self, output: str = OUTPUT) -> list[tuple[int, str, str]]:
        """Return row, column and reason of each row that was refused."""
        with (self.folder / f"{output}.rejected.csv").open(encoding="utf-8", newline="") as lines:
            return [(int(row["row"]), row["column"], row["reason"]) for row in csv.DictReader(lines)]

    def left(self) -> set[str]:
        """Return the names in the folder that are neither the model nor input."""
        return {path.name for path in self.folder.iterdir() if path.name.startswith(("out", "."))}


def lay_out(folder: Path, model: Model, monkeypatch: pytest.MonkeyPatch, store: FakeStore | None = None) -> Job:
    """Put a model into a folder, work there, and let `fake:` open a store."""
    model.lay_out(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setitem(READERS, "fake", lambda _url: store or FakeStore())
    monkeypatch.setenv("SERVING_FEATURE_STORE", "fake:")
    return Job(folder)


def read_table(path: Path) -> pa.Table:
    """Read a CSV or Parquet file."""
    return pyarrow.csv.read_csv(path) if path.suffix == ".csv" else pyarrow.parquet.read_table(path)


def write(path: Path, columns: Mapping[str, Sequence[Any] | pa.Array], **options: Any) -> str:
    """Write a CSV or Parquet file; return its name."""
    table = pa.table(dict(columns))
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pyarrow.parquet.write_table(table, path, **options)
    return path.name


def numbers(count: int) -> dict[str, list[Any]]:
    """Return rows for the model whose features are all given."""
    return {"base": [float(row) for row in range(count)], "value": [0.5] * count}


def count_durable(act: Callable[[], object]) -> Callable[[str], Any]:
    """Return a replacement of a function of `os` that first calls `act`."""

    def counted(name: str) -> Any:
        original = getattr(os, name)

        def wrapped(*arguments: Any) -> Any:
            act()
            return original(*arguments)

        return wrapped

    return counted


DURABLE = ("fsync", "replace")
"""The functions of `os` that make something durable, or visible."""


def command(kind: str, *words: str) -> list[str]:
    """Return the command of another process.

    `die N` dies before the durable step N, `peak` prints its memory, `full N` writes no more than N bytes into a file.
    """
    return [sys.executable, "-m", __name__, kind, *words]


ENVIRONMENT = environment(THIS_REPO, SERVING_FEATURE_STORE="fake:")
SMALL = {"rows": 10, "part_rows": 30}


def _die(steps: int) -> None:
    left = iter(range(steps))

    def step() -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    counted = count_durable(step)
    for name in DURABLE:
        setattr(os, name, counted(name))
    asyncio.run(run(replace(Options(["in.parquet"], Path(OUTPUT)), **SMALL)))  # type: ignore[arg-type]


def _full(most: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    project.run(lambda: main(["in.parquet", "--output", "out.csv", "--rows", "100"]))


def _peak(file: str) -> None:
    options = Options([file], Path(f"{file}.csv"), keys=("pad",), rows=4096, part_rows=16384)
    asyncio.run(run(options))
    print(memory.peak())


if __name__ == "__main__":
    cast("dict[str, Any]", READERS)["fake"] = lambda _url: FakeStore()
    if sys.argv[1] == "die":
        _die(int(sys.argv[2]))
    elif sys.argv[1] == "full":
        _full(int(sys.argv[2]))
    else:
        _peak(sys.argv[2])
