"""Paths of this repo, and the entry point that turns errors into one sentence."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from serving.domain.errors import ServingError, SettingsError

ROOT = Path(__file__).resolve().parents[3]
LOCK = ROOT / "model.lock"
REGISTRY = ROOT / "registry"
ARTIFACTS = ROOT / "artifacts"


def service() -> dict[str, str]:
    """Return the `[service]` table of config/service.toml."""
    path = ROOT / "config" / "service.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))["service"]
        return {key: str(table[key]) for key in ("name", "description", "organization")}
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{path}: must have a table [service] with name, description and organization ({error})."
        ) from None


def run(main: Callable[[], int]) -> None:
    """Run a command and exit with its code; deliberate errors become one sentence on standard error."""
    try:
        sys.exit(main())
    except ServingError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
