"""Configure the address of the Neptune server in a test."""

from __future__ import annotations

import base64
import json

import pytest

SCHEME = "neptune"
CANARY = "the-secret-in-the-token"


def point_to(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set Neptune's address to this local port; every secret contains CANARY."""
    message = {"api_address": f"http://127.0.0.1:{port}", "api_key": CANARY}
    monkeypatch.setenv("NEPTUNE_API_TOKEN", base64.b64encode(json.dumps(message).encode()).decode())
    monkeypatch.setenv("NEPTUNE_PROJECT", "team/serving")
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


def garble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the token by an invalid one."""
    monkeypatch.setenv("NEPTUNE_API_TOKEN", f"{CANARY}: no base64 at all")
