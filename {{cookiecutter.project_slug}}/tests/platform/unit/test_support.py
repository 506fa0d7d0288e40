"""The table of support dates covers this repo's images, and lists what is due on a given day."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tools import support

TABLE = """
[[part]]
name = "Debian 13"
image = "*-trixie"
ends = 2028-08-09
note = "full support"

[[part]]
name = "Python 3.13"
image = "python:3.13-*"
ends = 2029-10-31
note = "security fixes"

[[part]]
name = "Python 3.11"
image = "python:3.11-*"
ends = 2027-10-31
note = "of no image here"

[[part]]
name = "A registry"
ends = 2026-03-05
look_again = 2027-05-27
note = "its maker closed"
"""


@pytest.fixture
def repo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repo whose image is Python 3.13 on Debian 13."""
    (folder / "config" / "support").mkdir(parents=True)
    (folder / "config" / "support" / "table.toml").write_text(TABLE, encoding="utf-8")
    (folder / "Dockerfile").write_text("ARG BASE_IMAGE=python:3.13-slim-trixie\nFROM ${BASE_IMAGE}\n", encoding="utf-8")
    monkeypatch.setattr(support, "ROOT", folder)
    return folder


def test_every_image_of_this_repo_is_in_the_table() -> None:
    pinned = support.images(support.ROOT)
    assert any(image.startswith("python:") for image in pinned)
    assert support.unlisted(support.parts(support.ROOT), pinned) == []


def test_every_row_of_this_repos_table_has_a_day() -> None:
    assert all(isinstance(part.due, date) for part in support.parts(support.ROOT))


def test_nothing_is_reported_long_before_its_date(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert support.main(["--today", "2026-11-27"]) == 0
    assert capsys.readouterr().out == "nothing is overdue; the next is A registry, 2027-05-27\n"


def test_nearby_dates_are_reported_only_for_parts_in_use(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert support.main(["--today", "2027-05-27", "--within", "180"]) == 0
    said = capsys.readouterr().out
    assert "A registry: support ends 2026-03-05; look again by 2027-05-27 (in 0 day(s)). its maker closed" in said
    assert "Python 3.11" not in said
    assert "Debian" not in said


def test_a_past_date_is_exit_code_1(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert support.main(["--today", "2028-08-10"]) == 1
    said = capsys.readouterr().out
    assert "Debian 13: support ends 2028-08-09 (1 day(s) ago). full support" in said
    assert "nothing is overdue" not in said


@pytest.mark.parametrize("line", ["image: ${REDIS_IMAGE:-redis:9.0.1-trixie}", "image: redis:9.0.1-trixie"])
def test_an_unlisted_image_is_exit_code_1(repo: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    (repo / "compose").mkdir()
    (repo / "compose" / "store.yaml").write_text(f"services:\n  store:\n    {line}\n", encoding="utf-8")
    assert support.main(["--today", "2026-11-27"]) == 1
    assert "redis:9.0.1-trixie: is not in config/support/" in capsys.readouterr().out


@pytest.mark.parametrize("image", ["python:3.13-slim-forky", "python:3.15-slim-trixie"])
def test_both_the_program_and_its_debian_release_must_be_listed(repo: Path, image: str) -> None:
    assert support.unlisted(support.parts(repo), [image]) == [image]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('[[part]]\nname = "x"\nnote = "y"\n', "x has neither `ends` nor `look_again`"),
        ('[[part]]\nname = "x"\n', "each \\[\\[part\\]\\] needs a name and a note"),
        ("part = 1\n", "each \\[\\[part\\]\\] needs a name and a note"),
        ("[[part\n", "each \\[\\[part\\]\\] needs a name and a note"),
    ],
)
def test_a_broken_table_is_named_in_one_sentence(repo: Path, row: str, message: str) -> None:
    (repo / "config" / "support" / "table.toml").write_text(row, encoding="utf-8")
    with pytest.raises(support.TableError, match=message):
        support.main(["--today", "2026-11-27"])
