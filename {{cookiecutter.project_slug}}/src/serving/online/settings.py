"""The server's settings: environment variables prefixed SERVING_, and well-known names."""

from __future__ import annotations

import enum
import ipaddress
import os
import re
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from serving.domain.errors import quoted
from serving.domain.settings import PREFIX, read_settings
from serving.online.entrypoint_settings import EntrypointSettings
from serving.prediction.settings import PredictionSettings

# What Kubernetes sets in each pod for a Service named `serving` or `serving-...`:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(
    r"\w+_SERVICE_(HOST|PORT(_\w+)?)=.*|\w+_PORT(_\d+_\w+)?=(tcp|udp|sctp)://.*|\w+_PORT_\d+_\w+=.*"
)

_CLIENT_VARIABLE = "SERVING_TARGET"  # the client's; it may be set where a server starts


class Batching(enum.StrEnum):
    """Say whether calls that wait at the same moment share a model call."""

    ON = "on"
    OFF = "off"
    AUTO = "auto"


class Settings(EntrypointSettings, PredictionSettings):
    """Hold every setting of the server; all defaults suit production."""

    allow_unpinned: bool = False
    """For development: `make run` resolves an unpinned MODEL_VERSION; a server never does."""
    feature_timeout: float = Field(default=0.05, gt=0, le=60)
    """Seconds that one read of the feature store may take."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 inside a container, :: for IPv6."""
    metrics_host: str = "127.0.0.1"
    """The address of /metrics, which has neither encryption nor access control."""
    grpc_port: int = Field(default=8001, ge=0, le=65535)
    """The gRPC port; 0 takes a free one and logs it."""
    metrics_port: int = Field(default=8002, ge=0, le=65535)
    """The port of /metrics; 0 takes a free one and logs it."""
    max_rows: int = Field(default=1024, ge=1, le=1 << 20)
    """The largest batch of one call; if it isn't set, fewer rows where memory is short."""
    max_running: int = Field(default=64, ge=1, le=4096)
    """The number of calls in progress at once."""
    max_queued: int = Field(default=1024, ge=0, le=65536)
    """The number of calls that may wait; the next one is refused with RESOURCE_EXHAUSTED."""
    batching: Batching = Batching.AUTO
    """Whether calls that wait share a model call: `on`, `off`, or `auto`, which measures at start if that pays."""
    call_timeout: float = Field(default=5.0, gt=0, le=3600)
    """The longest time of a call in seconds, whatever deadline the caller sets."""
    drain: float = Field(default=1.0, ge=0, le=300)
    """Seconds between NOT_SERVING and refusing new calls: time for load balancers to notice."""
    grace: float = Field(default=10.0, ge=0, le=3600)
    """Seconds for calls in flight to finish after that."""
    tls_certificate: Path | None = None
    """The server's certificate chain (PEM); with `tls_key`, turns TLS on."""
    tls_key: Path | None = None
    """The private key of the certificate (PEM)."""
    tls_client_ca: Path | None = None
    """The CA that must have signed client certificates (PEM); turns on mutual TLS."""
    client_names: str = ""
    """Names, separated by commas: only client certificates with one of them are let in; by default all of the CA."""
    token_file: Path | None = None
    """The bearer tokens that callers may send, one a line; read again when the file changes."""
    plaintext: str = Field(default="loopback", pattern="^(loopback|allowed)$")
    """Where calls may be unencrypted: on `loopback` only, or `allowed` wherever the server listens."""
    health_socket: str = Field(default="", pattern="^(unix(-abstract)?:\\S+)?$")
    """A Unix socket for health checks in the same container, as gRPC writes it; needs no certificate and no token."""
    model_threads: int = Field(default=1, ge=1, le=256)
    """Threads that one model call may use."""
    runtime_url: str = ""
    """The URL of a model runtime in another process, which its adapter reads; default in config/runtime.toml."""
    prediction_log_share: float = Field(default=1.0, gt=0, le=1)
    """The share of calls that the prediction log takes, chosen at random."""
    reflection: bool = False
    """Serve gRPC reflection: for development, off in production."""
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """DEBUG, INFO, WARNING or ERROR."""

    @field_validator("tls_certificate", "tls_key", "tls_client_ca", "token_file", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return value or None  # Compose passes an unset variable on as an empty one

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Settings:
        if (self.tls_certificate is None) != (self.tls_key is None) or (self.tls_client_ca and not self.tls_key):
            raise ValueError("SERVING_TLS_CERTIFICATE and SERVING_TLS_KEY go together; set both or neither")
        if self.names() and not self.tls_client_ca:
            raise ValueError("SERVING_CLIENT_NAMES needs client certificates; set SERVING_TLS_CLIENT_CA too")
        return self

    @model_validator(mode="after")
    def _nothing_is_readable_by_mistake(self) -> Settings:
        hosts = {"SERVING_HOST": self.host} | self.further_hosts()
        open_to = [f"{name}={quoted(host)}" for name, host in hosts.items() if not _is_loopback(host)]
        if self.tls_key or not open_to:
            return self
        if self.token_file:
            raise ValueError(
                f"SERVING_TOKEN_FILE without TLS: the network of {open_to[0]} could read the "
                "tokens; set SERVING_TLS_CERTIFICATE and SERVING_TLS_KEY"
            )
        if self.plaintext != "allowed":
            raise ValueError(
                f"{open_to[0]} without TLS: its network can read and change every call; set "
                "SERVING_TLS_CERTIFICATE and SERVING_TLS_KEY, or accept that with SERVING_PLAINTEXT=allowed"
            )
        return self

    def names(self) -> frozenset[str]:
        """Return the names of the client certificates that are let in; empty if all are."""
        return frozenset(name.strip() for name in self.client_names.split(",")) - {""}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def load_settings() -> Settings:
    """Read the settings from the environment.

    :raises SettingsError: a value is wrong, or a SERVING_ variable does not exist; one sentence for all of them
    """
    own = [name for name, field in Settings.model_fields.items() if field.validation_alias is None]
    known = {f"{PREFIX}{name.upper()}" for name in own} | {_CLIENT_VARIABLE}
    faults = [
        f"{name} is not a setting; remove it (the settings are in src/serving/online/settings.py)"
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and name not in known and not _SERVICE_LINK.fullmatch(f"{name}={os.environ[name]}")
    ]
    return read_settings(Settings, tuple(faults))
