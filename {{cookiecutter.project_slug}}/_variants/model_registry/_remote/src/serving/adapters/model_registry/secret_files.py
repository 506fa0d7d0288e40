"""Secrets of a model registry: from a variable, or from the file that NAME_FILE names, as containers get them."""

from __future__ import annotations

import os
from pathlib import Path

from serving.domain.errors import SettingsError


def secret(name: str) -> str:
    """Return a secret, or nothing where neither NAME nor the file holds one.

    :raises SettingsError: NAME_FILE names what can't be read
    """
    value, file = os.environ.get(name, ""), os.environ.get(f"{name}_FILE", "")
    if value or not file:
        return value.strip()
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{name}_FILE={file}: can't be read; let it name a file that holds the secret.") from None
