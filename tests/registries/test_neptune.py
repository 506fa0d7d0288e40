"""The Neptune registry of a generated repo: Neptune's own client, and a STAND-IN of its server (neptune_server.py)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.registries.neptune_server import PROJECT, WORKSPACE, neptune_server, token
from tests.support import Repo, run


@pytest.mark.long
def test_the_registry_keeps_its_contract(default_repo: Repo) -> None:
    with neptune_server() as address:
        environment = os.environ | {
            "NEPTUNE_API_TOKEN": token(address),
            "NEPTUNE_PROJECT": f"{WORKSPACE}/{PROJECT}",
            "OAUTHLIB_INSECURE_TRANSPORT": "1",  # the stand-in speaks plain http, on this machine only
            "NEPTUNE_MODE": "debug",  # a trap: with it the client only pretends to send
        }
        # Libraries of Neptune's client raise deprecation warnings.
        words = ["-m", "pytest", "-q", "-W", "default", "tests/platform/registries/neptune_contract.py"]
        done = run([default_repo.python, *words], cwd=default_repo.path, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


def test_the_stand_in_says_what_it_is() -> None:
    assert "STAND-IN" in Path(__file__).with_name("neptune_server.py").read_text(encoding="utf-8")[:200]
