"""What a model's file may make the server do: config/runtime.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from serving.adapters.runtime.python.packed import Description
from serving.domain.errors import SettingsError, quoted

CONFIG = Path("config/runtime.toml")


@dataclass(frozen=True)
class RuntimeSettings:
    """Hold the types that skops may build besides those that it trusts itself, and whether pickles are opened."""

    trusted: tuple[str, ...] = ()
    accept_pickle: bool = False


@dataclass(frozen=True)
class Opening:
    """Hold what a library needs to open a model besides its bytes; `threads` bounds those of one call."""

    description: Description
    settings: RuntimeSettings
    threads: int


def runtime_settings() -> RuntimeSettings:
    """Read the settings.

    :raises SettingsError: the file is missing or holds something else
    """
    try:
        content = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
        unknown = sorted(content.keys() - {"trusted", "accept_pickle"})
        if unknown:
            raise SettingsError(f"{CONFIG}: {quoted(unknown[0])} is no setting; remove it.")
        return TypeAdapter(RuntimeSettings).validate_python(content)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{CONFIG}: can't be read ({type(error).__name__}); restore the file.") from None
    except ValidationError as error:
        fault = error.errors()[0]
        raise SettingsError(f"{CONFIG}: {fault['loc'][0]}: {fault['msg'][0].lower()}{fault['msg'][1:]}.") from None
