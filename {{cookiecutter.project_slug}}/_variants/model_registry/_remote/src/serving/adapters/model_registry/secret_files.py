"""Secrets of a model registry: from NAME or, as in containers, from the file in NAME_FILE."""

from __future__ import annotations

import os
from pathlib import Path

from serving.domain.errors import SettingsError


def secret(name: str) -> str:
    """Return a secret; None if neither NAME nor the file has one.

    :raises SettingsError: the file in NAME_FILE can't be read
    """
    value, file = os.environ.get(name, ""), os.environ.get(f"{name}_FILE", "")
    if value or not file:
        return value.strip()
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{name}_FILE={file}: can't be read; set it to a file that holds the secret.") from None
