"""Generate the committed stubs from the .proto files: `make proto`; `--check` fails if they are outdated.

Each stub has a private descriptor pool. In the default pool, two modules that define the package `inference` can't be
imported into one process, so a caller could not use two such services, or tritonclient beside one.

A new stub starts as an empty file where it is wanted: beside its .proto file, in the client, or in both.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from serving.domain.errors import OperatorError
from serving.offline import project

SOURCES = project.ROOT / "src" / "serving"
CLIENT = project.ROOT / "client" / "serving_client" / "_proto"

_DEFAULT_POOL = "_descriptor_pool.Default()"
_OWN_POOL = "_descriptor_pool.DescriptorPool()"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check all stubs; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.proto", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a stub is not up to date")
    check = parser.parse_args(arguments).check
    stale = [path for path, content in stubs() if not path.exists() or path.read_bytes() != content]
    if check and stale:
        raise OperatorError(f"{', '.join(map(_shown, stale))} differ from the .proto files; run `make proto`.")
    if not check:
        for path, content in stubs():
            path.write_bytes(content)
        print(f"wrote {len(stale)} stubs that had changed" if stale else "all stubs are up to date")
    return 0


def stubs() -> Iterator[tuple[Path, bytes]]:
    """Generate every stub that exists, beside its .proto file and in the client; yield path and content."""
    for source in sorted(SOURCES.rglob("*.proto")):
        places = [folder for folder in (source.parent, CLIENT) if (folder / f"{source.stem}_pb2.py").exists()]
        with tempfile.TemporaryDirectory() as folder:
            _generate(source, Path(folder))
            for place in places:
                yield place / f"{source.stem}_pb2.py", _with_own_pool(Path(folder, f"{source.stem}_pb2.py"))
                yield place / f"{source.stem}_pb2.pyi", Path(folder, f"{source.stem}_pb2.pyi").read_bytes()


def _generate(source: Path, target: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{source.parent}"]
    command += [f"--python_out={target}", f"--mypy_out=quiet:{target}", source.name]
    # protoc looks for protoc-gen-mypy on PATH; it is beside this interpreter.
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    if run.returncode:
        raise OperatorError(f"protoc: {run.stderr.strip()}")


def _with_own_pool(stub: Path) -> bytes:
    text = stub.read_text(encoding="utf-8")
    if text.count(_DEFAULT_POOL) != 1:
        raise OperatorError(f"{stub.name}: protoc's output has changed: {_DEFAULT_POOL} is not in it exactly once.")
    return text.replace(_DEFAULT_POOL, _OWN_POOL).encode()


def _shown(path: Path) -> str:
    return path.relative_to(project.ROOT).as_posix()


if __name__ == "__main__":
    project.run(main)
