"""The page that compares gRPC with REST shows what `make transports` measures."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support import ROOT, copy_of_template, run

PAYLOADS, PATHS = 3, 5
IMAGE_BYTES = 224 * 224 * 3 * 4
JSON, RAW = "JSON", "raw bytes"


def measured(page: Path) -> list[list[str]]:
    """Return the rows of the table: tensor, path, p50, p99, its ratio, bytes, their ratio."""
    text = page.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\[[\d, ]+\]` \| .*) \|$", text, re.MULTILINE)
    return [row.split(" | ") for row in rows]


def shown(picture: Path) -> list[str]:
    """Return the texts of the picture that are numbers."""
    root = ElementTree.fromstring(picture.read_text(encoding="utf-8"))  # noqa: S314 - our own file
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    return [text for text in texts if re.fullmatch(r"\d+\.\d\d", text)]


def check(docs: Path) -> None:
    rows = measured(docs / "transports.md")
    assert len(rows) == PAYLOADS * PATHS
    assert shown(docs / "transports.svg") == [row[2] for row in rows]
    for _, path, p50, p99, time, count, size in rows:
        assert 0 < float(p50) <= float(p99)
        assert (float(time), float(size)) == (1, 1) or not path.startswith("gRPC")
        assert int(count.replace(",", "")) > 0
    # Sizes are the same on every machine: raw bytes are little more than the tensor there and back, JSON is a multiple.
    for _, path, *_, count, _ in rows[-PATHS:]:
        ratio = int(count.replace(",", "")) / (2 * IMAGE_BYTES)
        assert 1 <= ratio < 1.01 if RAW in path else 4 < ratio < 6, path


def test_page_and_picture_show_one_run() -> None:
    check(ROOT / "docs")


@pytest.mark.long
def test_the_command_measures_and_writes_both(tmp_path: Path) -> None:
    template = copy_of_template(tmp_path / "template")
    page = template / "docs" / "transports.md"
    before = page.read_text(encoding="utf-8")
    command = [sys.executable, "tools/tasks.py", "transports", "--rounds", "1", "--seconds", "0", "--calls", "3"]
    done = run(command, cwd=template)
    assert done.returncode == 0, done.stdout + done.stderr
    check(template / "docs")
    after = page.read_text(encoding="utf-8")
    assert measured(page) != measured(ROOT / "docs" / "transports.md")
    assert [text.partition("<!-- measured -->")[0] for text in (before, after)] == 2 * [
        before.partition("<!-- measured -->")[0]
    ]
    assert after.count("What this says") == 1
