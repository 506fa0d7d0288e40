"""Calls to Neptune with a deadline: each runs in a child process, which is killed at the deadline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import serving
from serving.adapters.model_registry import neptune_process
from serving.adapters.model_registry.neptune_access import PLAIN_HTTP, Access, read_access
from serving.adapters.model_registry.neptune_process import REFUSED, STALE
from serving.domain.errors import RegistryError, RegistryUnavailable, SettingsError, StalePromotion

# The child's environment. Not NEPTUNE_MODE, which overrides the `mode` argument, and not
# NEPTUNE_ALLOW_SELF_SIGNED_CERTIFICATE, which disables verification even if set to False.
_KEPT = (
    *("PATH", "LANG", "SYSTEMROOT", "TMPDIR", PLAIN_HTTP),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
)
_SOURCE = Path(serving.__file__).resolve().parents[1]
_BAD_TOKEN = frozenset({"NeptuneInvalidApiTokenException", "Unauthorized", "Forbidden", "HTTP 401", "HTTP 403"})
_NO_PROJECT = frozenset({"ProjectNotFound", "ProjectNotFoundWithSuggestions"})


def call(work: str, arguments: Mapping[str, Any], timeout: float) -> Any:
    """Run the work in a child process, and kill it after `timeout` seconds."""
    access = read_access()
    request = request_for(access, work, arguments)
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    # By default the client retries for 61 s; with 0 it would never send a request.
    environment |= {"PYTHONPATH": str(_SOURCE), "NEPTUNE_RETRIES_TIMEOUT": str(max(1, int(timeout / 4)))}
    with tempfile.TemporaryDirectory(prefix="neptune-") as place:  # the client writes to its working folder and home
        try:
            done = subprocess.run(
                [sys.executable, "-m", neptune_process.__name__],
                input=json.dumps(request),
                env=environment | {"HOME": place},
                cwd=place,
                capture_output=True,
                check=False,
                encoding="utf-8",
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise RegistryUnavailable(
                f"Neptune at {access.host}: gave no answer within {timeout:g} s; check that it runs."
            ) from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {"error": neptune_process.FAILED, "text": f"its client ended with code {done.returncode}"}
    return parse_response(answer, access)


def request_for(access: Access, work: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the child's input."""
    return {
        "work": work,
        "arguments": dict(arguments),
        "address": access.address,
        "project": access.project,
        "token": access.token,
    }


def parse_response(answer: Mapping[str, Any], access: Access) -> Any:
    """Return the result of a response.

    :raises RegistryError: it failed; RegistryUnavailable and StalePromotion are subclasses
    """
    error, text = answer.get("error"), answer.get("text", "")
    if error is None:
        return answer["result"]
    if error == STALE:
        raise StalePromotion("another promotion came first; check it, then promote again.")
    if error == REFUSED:
        raise RegistryError(f"Neptune at {access.host}: {text}")
    if text in _BAD_TOKEN:
        raise SettingsError(f"NEPTUNE_API_TOKEN: {access.host} rejects it; copy it again from that server.")
    if text in _NO_PROJECT:
        raise SettingsError(f"NEPTUNE_PROJECT={access.project}: {access.host} shows no such project to this token.")
    raise RegistryUnavailable(f"Neptune at {access.host}: gave no usable answer ({text}); check that it runs.")
