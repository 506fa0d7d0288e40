"""Show the progress of registry transfers on standard error, if it is a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.domain.ports import ModelRecord, Promotion, RegisteredVersion, RegistryBackend
from serving.domain.references import Reference

_EVERY_S = 0.1


class Watched:
    """Delegate to a backend, and show the progress of uploads and downloads."""

    def __init__(self, backend: RegistryBackend) -> None:
        self._backend = backend

    def read(self, model: str, *, timeout: float) -> ModelRecord:
        """Delegate."""
        return self._backend.read(model, timeout=timeout)

    def add(self, model: str, artifact: Path, digest: str, origin: str, *, timeout: float) -> RegisteredVersion:
        """Show elapsed time: registry clients report no upload progress."""
        with _bar(f"storing {model}", None):
            return self._backend.add(model, artifact, digest, origin, timeout=timeout)

    def download(self, version: Reference, folder: Path, *, timeout: float) -> None:
        """Show the downloaded bytes."""
        with _bar(f"fetching {version.model}/{version.version}", folder):
            self._backend.download(version, folder, timeout=timeout)

    def append(self, model: str, promotion: Promotion, *, timeout: float) -> None:
        """Delegate."""
        self._backend.append(model, promotion, timeout=timeout)


@contextmanager
def _bar(what: str, folder: Path | None) -> Iterator[None]:
    if not sys.stderr.isatty():
        yield
        return
    from tqdm import tqdm  # not installed in the fetch container, which has no terminal

    ended = threading.Event()

    def follow() -> None:
        with tqdm(desc=what, unit="B", unit_scale=True, leave=False, file=sys.stderr) as bar:
            last = False
            while not last:
                last = ended.wait(_EVERY_S)
                if folder is not None:
                    bar.n = sum(path.stat().st_size for path in folder.glob("*"))
                bar.refresh()

    follower = threading.Thread(target=follow, name="progress", daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()
