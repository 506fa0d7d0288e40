"""Neptune's server, token and project, from NEPTUNE_API_TOKEN and NEPTUNE_PROJECT.

Both are checked before anything is sent. The token is base64 of JSON with the server's `api_address` and, optionally,
`api_url`.
"""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from serving.adapters.model_registry.secret_files import secret
from serving.domain.errors import SettingsError, quoted

_TOKEN, _PROJECT, _KEY = "NEPTUNE_API_TOKEN", "NEPTUNE_PROJECT", "NEPTUNE_MODEL_KEY"
_CLOSED = "neptune.ai"
# Read by the client's OAuth library, which refuses plain http without it.
PLAIN_HTTP = "OAUTHLIB_INSECURE_TRANSPORT"


@dataclass(frozen=True)
class Access:
    """Neptune's server, token and project; `project` is workspace/name."""

    address: str
    project: str
    token: str

    @property
    def host(self) -> str:
        """Return the server's host and port, without secrets."""
        return urlsplit(self.address).netloc.rpartition("@")[2]

    def __repr__(self) -> str:
        return f"Access({self.host}, {self.project})"  # never print the token


def read_access() -> Access:
    """Read the environment.

    :raises SettingsError: a variable is missing or malformed
    """
    token = secret(_TOKEN)
    if not token:
        raise SettingsError(
            f"{_TOKEN}: is not set, and {_TOKEN}_FILE names no file with it; copy a token from your Neptune server."
        )
    addresses = _addresses(token)
    for address in addresses:
        _check(address)
    project = os.environ.get(_PROJECT, "")
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", project):
        raise SettingsError(f"{_PROJECT}={quoted(project)}: names no project; the form is workspace/project.")
    return Access(addresses[-1], project, token)


def model_key(model: str) -> str:
    """Return the key of a model in Neptune: capital letters and digits; NEPTUNE_MODEL_KEY sets another one."""
    key = os.environ.get(_KEY) or re.sub(r"[^A-Z0-9]", "", model.upper())
    if not re.fullmatch(r"[A-Z][A-Z0-9]*", key):
        raise SettingsError(f"{_KEY}={quoted(key)}: is not the key of a model; use capital letters and digits.")
    return key


def _addresses(token: str) -> list[str]:
    """Return the addresses in a token; the last one is the API's."""
    try:
        decoded = json.loads(base64.b64decode(token, validate=True))
        found = [decoded["api_address"], decoded.get("api_url")]
    except (ValueError, KeyError, TypeError, AttributeError):
        found = [None]
    addresses = [str(address) for address in found if address]
    if not addresses:
        raise SettingsError(f"{_TOKEN}: is not a token of a Neptune server; copy it again, whole and without quotes.")
    return addresses


def _check(address: str) -> None:
    try:
        parts = urlsplit(address)
        host, usable = parts.hostname or "", parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        host, usable = "", False
    if not host or not usable:
        raise SettingsError(f"{_TOKEN}: holds no http:// or https:// address of a server; copy it again.")
    if f".{host}".rstrip(".").endswith(f".{_CLOSED}"):
        raise SettingsError(
            f"{_TOKEN}: is for {host}, but the hosted {_CLOSED} closed on 2026-03-05 and deleted its data; "
            f"use a token of a self-hosted server, or another registry."
        )
    if parts.scheme == "http" and not os.environ.get(PLAIN_HTTP):
        raise SettingsError(
            f"{_TOKEN}: its server is at http://{host}, where others can read the token in transit; give it https://."
        )
