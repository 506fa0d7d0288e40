from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from serving.adapters.model_registry.local import LocalRegistry
from serving.domain.references import Reference
from serving.offline.progress import Watched
from serving.offline.registry import ModelRegistry
from tests.platform.contract.model_registry_contract import ModelRegistryContract, registered


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestWatchedRegistry(ModelRegistryContract):
    """The registry contract also holds with a progress display."""

    def open(self, folder: Path) -> ModelRegistry:
        return ModelRegistry("local", self.backend(folder))

    def backend(self, folder: Path) -> Watched:
        return Watched(LocalRegistry(folder / "registry"))

    def damage(self, folder: Path, reference: Reference) -> None:
        kept = folder / "registry" / reference.model / reference.version / "artifact" / "model.onnx"
        kept.write_bytes(b"!" + kept.read_bytes()[1:])

    def test_a_terminal_shows_the_bytes_of_a_transfer(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        registry = self.open(folder)
        fetched = registry.fetch(registered(registry, folder), folder / "artifacts")
        arrived = sum(path.stat().st_size for path in fetched.iterdir())
        assert "storing tiny" in terminal.getvalue()
        assert f"fetching tiny/1: {arrived / 1000:.2f}kB" in terminal.getvalue()

    def test_without_a_terminal_nothing_is_printed(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal = io.StringIO()
        monkeypatch.setattr(sys, "stderr", terminal)
        registered(self.open(folder), folder)
        assert terminal.getvalue() == ""
