"""The store URL for a Redis, for benchmarks."""

from __future__ import annotations

from pathlib import Path


def store_url(folder: Path, port: int) -> str:
    """Return the URL for a Redis at a port of this machine; a store that needs files writes them into the folder."""
    return f"redis://127.0.0.1:{port}/0"
