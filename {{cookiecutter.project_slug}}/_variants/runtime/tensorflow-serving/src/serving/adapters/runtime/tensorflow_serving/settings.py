"""Where TensorFlow Serving is: SERVING_RUNTIME_URL, else `url` in config/runtime.toml."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from serving.domain.errors import SettingsError, quoted

CONFIG = Path("config/runtime.toml")
DEVELOPMENT = "development:"
_VARIABLE = "SERVING_RUNTIME_URL"
_URL = re.compile(r"grpc://([\w.-]+:\d{1,5})")


def address() -> str:
    """Return host and port of TensorFlow Serving, or nothing for the development server.

    :raises SettingsError: there is no usable URL
    """
    url = os.environ.get(_VARIABLE) or _configured()
    if url == DEVELOPMENT:
        return ""
    match = _URL.fullmatch(url)
    if not match:
        raise SettingsError(f"{_VARIABLE}={quoted(url)} must be grpc://<host>:<port>, or {DEVELOPMENT}.")
    return match[1]


def _configured() -> str:
    try:
        return str(tomllib.loads(CONFIG.read_text(encoding="utf-8"))["url"])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise SettingsError(
            f"{CONFIG}: must have `url` ({type(error).__name__}); restore the file or set {_VARIABLE}."
        ) from None
