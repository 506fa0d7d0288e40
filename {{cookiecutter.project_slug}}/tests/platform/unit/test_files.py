from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.domain.files import write_synced


def test_a_file_is_on_the_disk_with_all_its_content_before_the_write_returns(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _file: synced.append((folder / "model.onnx").read_bytes()))
    write_synced(folder / "model.onnx", b"weights")
    assert synced == [b"weights"]
    assert (folder / "model.onnx").read_bytes() == b"weights"


def test_a_file_that_exists_is_never_written_over(folder: Path) -> None:
    write_synced(folder / "model.onnx", b"weights")
    with pytest.raises(FileExistsError):
        write_synced(folder / "model.onnx", b"other")
    assert (folder / "model.onnx").read_bytes() == b"weights"
