"""The settings that the server and the jobs beside it share: which version is pinned, where features and models are."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.domain.errors import SettingsError, UnresolvedReference, quoted
from serving.domain.references import FORM, Reference, is_digest, parse_pinned, read_lock

PREFIX = "SERVING_"
STORE_CONFIG = Path("config/feature_store.toml")

Kind = TypeVar("Kind", bound=BaseSettings)


def default_store_url() -> str:
    """Return the URL of the feature store for work without containers.

    :raises SettingsError: config/feature_store.toml does not give one
    """
    try:
        return str(tomllib.loads(STORE_CONFIG.read_text(encoding="utf-8"))["url"])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise SettingsError(
            f"{STORE_CONFIG}: must have `url` ({type(error).__name__}); restore the file or set SERVING_FEATURE_STORE."
        ) from None


class SharedSettings(BaseSettings):
    """Hold what the server and its jobs must agree on."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    model_lock: Path = Path("model.lock")
    """The file with the one pinned reference to serve."""
    model_version: str = Field(default="", validation_alias=AliasChoices("MODEL_VERSION"))
    """Overrides the lock: a full pinned reference, or a bare version together with MODEL_SHA256."""
    model_sha256: str = Field(default="", validation_alias=AliasChoices("MODEL_SHA256"))
    """The digest (64 hex digits) that belongs to a bare MODEL_VERSION."""
    artifacts: Path = Path("artifacts")
    """The folder of verified artifacts, addressed by digest."""
    feature_store: str = ""
    """The URL of the feature store; its scheme selects the adapter. The default is in config/feature_store.toml."""
    prediction_log: Path | None = None
    """The folder of the prediction log; none turns it off."""
    prediction_log_mb: int = Field(default=1024, ge=8, le=1 << 20)
    """The most megabytes of that folder; the oldest files are removed."""
    prediction_log_days: float = Field(default=30.0, gt=0, le=3650)
    """The days after which a file of it is removed."""

    @field_validator("prediction_log", mode="before")
    @classmethod
    def _empty_is_off(cls, value: object) -> object:
        return value or None  # Compose passes an unset variable on as an empty one

    def store_url(self) -> str:
        """Return the URL of the feature store.

        :raises SettingsError: neither the environment nor config/feature_store.toml gives one
        """
        return self.feature_store or default_store_url()

    def reference(self) -> Reference:
        """Return the pinned reference to serve.

        :raises UnresolvedReference: there is none, or it is not pinned; the text has the line to write
        """
        if not self.model_version:
            return read_lock(self.model_lock)
        if ":" in self.model_version:
            return parse_pinned(self.model_version, "MODEL_VERSION")
        digest = f"sha256={self.model_sha256.removeprefix('sha256=')}"
        if not is_digest(digest):
            raise UnresolvedReference(
                f"MODEL_VERSION={quoted(self.model_version)} is not pinned without its digest; "
                f"also set MODEL_SHA256=<64 hex digits>, or write MODEL_VERSION={FORM}."
            )
        return Reference.parse(str(read_lock(self.model_lock).pin(self.model_version, digest)))


def shared_settings() -> SharedSettings:
    """Read the shared settings from the environment.

    :raises SettingsError: a value is wrong; one sentence for all of them
    """
    return read_settings(SharedSettings)


def read_settings(kind: type[Kind], faults: tuple[str, ...] = ()) -> Kind:
    """Read settings from the environment, and refuse them together with the faults that were found before.

    :raises SettingsError: there is a fault; one sentence for all of them
    """
    settings: Kind | None = None
    found = list(faults)
    try:
        settings = kind()
    except ValidationError as error:
        for fault in error.errors():
            if not fault["loc"]:  # a rule about several settings: its text names them
                found.append(fault["msg"].removeprefix("Value error, "))
                continue
            name = str(fault["loc"][0])
            name = name if name.isupper() else f"{PREFIX}{name.upper()}"
            found.append(f"{name}={quoted(os.environ.get(name, ''))}: {fault['msg'][0].lower()}{fault['msg'][1:]}")
    if found or settings is None:
        raise SettingsError("; ".join(found) + ".")
    return settings
