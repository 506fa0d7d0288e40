"""Our messages of TensorFlow Serving's API, against its own definitions in an environment with TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import ROOT, generate, run
from tools.environment import Environment

WIRE = ROOT / "tests" / "wire"


@pytest.mark.long
def test_our_messages_and_tensorflow_servings_own_read_each_other(template: Path, tmp_path: Path) -> None:
    repo = generate(template, tmp_path / "out", {"runtime": "tensorflow-serving", "feature_store": "sqlite"})
    locks = [repo.path / "requirements" / f"{slot}.txt" for slot in ("base", "framework")]
    python = Environment(tmp_path / ".venv").ensure([*locks, WIRE / "requirements.txt"])
    environment = os.environ | {"PYTHONPATH": str(repo.path / "client"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = run([str(python), str(WIRE / "exchange.py")], cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert "17 definitions agree, 10000 messages were read alike in both directions" in done.stdout
