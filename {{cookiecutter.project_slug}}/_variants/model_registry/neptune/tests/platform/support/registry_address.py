"""How a test says where the Neptune server is."""

from __future__ import annotations

import base64
import json

import pytest

SCHEME = "neptune"
CANARY = "the-secret-in-the-token"


def point_to(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Neptune be at this port of this machine; all that is secret holds CANARY."""
    message = {"api_address": f"http://127.0.0.1:{port}", "api_key": CANARY}
    monkeypatch.setenv("NEPTUNE_API_TOKEN", base64.b64encode(json.dumps(message).encode()).decode())
    monkeypatch.setenv("NEPTUNE_PROJECT", "team/serving")
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


def garble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the token one that no server can have given."""
    monkeypatch.setenv("NEPTUNE_API_TOKEN", f"{CANARY}: no base64 at all")
