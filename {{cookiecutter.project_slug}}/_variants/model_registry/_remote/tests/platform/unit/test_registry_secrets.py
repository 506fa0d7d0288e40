from __future__ import annotations

from pathlib import Path

import pytest

from serving.adapters.model_registry.secret_files import secret
from serving.domain.errors import SettingsError


def test_a_secret_comes_from_the_variable_else_from_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert secret("A_TOKEN") == ""
    monkeypatch.setenv("A_TOKEN_FILE", str(folder / "token"))
    (folder / "token").write_text("", encoding="utf-8")  # as `make up` makes it
    assert secret("A_TOKEN") == ""
    (folder / "token").write_text("from the file\n", encoding="utf-8")
    assert secret("A_TOKEN") == "from the file"
    monkeypatch.setenv("A_TOKEN", " from the variable ")
    assert secret("A_TOKEN") == "from the variable"


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_an_unreadable_secret_file_is_named(
    content: bytes | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (folder / "token").write_bytes(content)
    monkeypatch.setenv("A_TOKEN_FILE", str(folder / "token"))
    with pytest.raises(SettingsError, match="^A_TOKEN_FILE=.*token: can't be read"):
        secret("A_TOKEN")
