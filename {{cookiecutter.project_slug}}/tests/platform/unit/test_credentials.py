from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.domain.errors import SettingsError
from serving.online.credentials import Watched


@pytest.fixture
def file(folder: Path) -> Path:
    path = folder / "token"
    path.write_text("first")
    return path


def watched(file: Path) -> Watched[str]:
    def read() -> str:
        try:
            return file.read_text()
        except OSError:
            raise SettingsError("the token can't be read.") from None

    return Watched((file, file.with_name("other")), read)


def test_content_is_read_again_only_after_a_change(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    held = watched(file)
    assert (held.changed(), held.content) == (False, "first")
    file.write_text("the second")
    assert (held.changed(), held.content) == (True, "the second")
    assert not held.changed()
    assert caplog.messages == [f"read again: {file}, {file.with_name('other')}"]


def test_a_change_that_can_t_be_used_is_reported_once_and_the_old_content_stays(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = watched(file)
    file.unlink()
    assert [held.changed(), held.changed()] == [False, False]
    assert held.content == "first"
    assert caplog.messages == ["the token can't be read. The server goes on with what it read before."]


def test_a_file_that_another_one_replaced_has_changed_even_at_the_same_time_and_size(file: Path) -> None:
    held = watched(file)
    status = file.stat()
    other = file.with_name("staged")
    other.write_text("later")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)
    assert (held.changed(), held.content) == (True, "later")
