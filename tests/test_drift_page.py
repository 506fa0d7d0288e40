"""The page of `make drift`, drawn by the Plotly that repos lock."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from local_extensions import ROOT_FOLDER
from tests.support import ROOT, run
from tools.environment import Environment

GENERATED = ROOT / ROOT_FOLDER
FOUND = [
    {"version": "1", "kind": "input", "name": "age", "drift": 0.3, "bins": ["00 below 1", "NaN"]}
    | {"trained": [0.9, 0.1], "now": [0.8, 0.2]},
    {"version": "1", "kind": "input", "name": "color", "drift": None, "bins": ["is red", "other"]}
    | {"trained": [0.5, 0.5], "now": [1.0, 0.0]},
    {"version": "1", "kind": "output", "name": "asked of Prometheus", "drift": 0.1, "bins": []}
    | {"trained": [], "now": []},
]
BARE = {"PYTHONPATH": str(GENERATED / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
DRAW = """
import json, sys
from pathlib import Path
from serving.offline import drift_page
drift_page.ENVIRONMENT = Path(sys.argv[1])
drift_page.draw(json.loads(sys.argv[2]), 0.25, Path(sys.argv[3]))
"""


@pytest.mark.long
@pytest.mark.parametrize("found", [FOUND, FOUND[1:2], FOUND[2:]], ids=["all", "bins", "index"])
def test_the_page_shows_what_was_found_and_needs_no_network(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, found: list[dict[str, object]]
) -> None:
    environment = Environment(tmp_path_factory.getbasetemp() / "plots" / ".venv")
    python = environment.ensure([GENERATED / "requirements" / "plots.txt"])
    target = tmp_path / "drift.html"
    words = [str(python), "-c", DRAW, str(environment.folder), json.dumps(found), str(target)]
    done = run(words, cwd=tmp_path, environment=os.environ | BARE)
    assert done.returncode == 0, done.stderr
    page = target.read_text(encoding="utf-8")
    for each in found:
        assert f"{each['kind']} {each['name']} (version 1)" in page
    assert len(page) > 1_000_000  # Plotly's script is in it, once
    assert len(page) < 6_000_000
    assert re.findall(r"<(?:script|link|img)[^>]* (?:src|href)=", page) == []
