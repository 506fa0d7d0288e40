"""Every call of a registry backend, for tests with an unusable server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from serving.domain.ports import Promotion, RegistryBackend
from serving.domain.references import Reference
from tests.platform.support.artifacts import tiny

PROMOTION = Promotion(1, "champion", "1", f"sha256={'0' * 64}", "2026-01-01T00:00:00+00:00", "ann")

Call = Callable[[RegistryBackend, Path, float], object]
CALLS: dict[str, Call] = {
    "read": lambda registry, _, timeout: registry.read("tiny", timeout=timeout),
    "add": lambda registry, folder, timeout: registry.add(
        "tiny", folder / "source", tiny().write(folder / "source"), "", timeout=timeout
    ),
    "download": lambda registry, folder, timeout: registry.download(
        Reference("any", "tiny", "1"), folder, timeout=timeout
    ),
    "append": lambda registry, _, timeout: registry.append("tiny", PROMOTION, timeout=timeout),
}
"""With the folder to work in, and the seconds to wait."""
