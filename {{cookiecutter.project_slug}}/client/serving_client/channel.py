"""Channel options that lose no call when a server restarts, moves or disappears."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from .errors import InvalidRequest

INFERENCE = "inference.GRPCInferenceService"

Options = tuple[tuple[str, int | str], ...]

SERVICE_CONFIG: Mapping[str, Any] = {
    # Balance over all addresses of the name; the default uses only the first.
    "loadBalancingConfig": [{"round_robin": {}}],
    # A draining server, which reports NOT_SERVING, gets no new calls.
    "healthCheckConfig": {"serviceName": INFERENCE},
    "methodConfig": [
        {
            "name": [{}],
            # Retries and waiting only help together: measured, each alone lost all 50 calls of a server killed and
            # restarted, both lost none. No timeout here: gRPC counts it from the wrong moment (grpc issue 40633).
            "waitForReady": True,
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                # A gRPC server answers CANCELLED to a call that arrives as it stops; the service never saw that call.
                # Never RESOURCE_EXHAUSTED: retrying it turns an overload into an outage.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
    # The retry budget: a small one loses calls during an ordinary restart.
    "retryThrottling": {"maxTokens": 1000, "tokenRatio": 0.1},
}

OPTIONS: Options = (
    # Re-resolve names within a second of a failed connection: the default of 30 s makes the outage as long.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # gRPC buffers 256 KiB of a request for retries by default, and does not retry larger ones.
    ("grpc.per_rpc_retry_buffer_size", (1 << 31) - 1),
    # Detects a server that vanishes without closing its connection. Servers must allow pings this often; ours do.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    # The server bounds the size of its answers.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)

WITH_RETRIES = (*OPTIONS, ("grpc.enable_retries", 1), ("grpc.service_config", json.dumps(SERVICE_CONFIG)))
"""For model calls. Health checks have no service config: they must answer even if the model does not."""

_GRPC_FORM = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):\S+")
_HOST_AND_PORT = re.compile(r"([^\s:/]+|\[[0-9a-fA-F:.%]+\]):\d{1,5}")


@dataclass(frozen=True)
class Tls:
    """Name the PEM files for an encrypted connection.

    `ca` verifies the server (default: the system's CAs); `certificate` and `key` authenticate the client (mutual TLS).
    `server_name` is the name in the server's certificate, if it is not the target's. `token_file` holds the bearer
    token on its first line; each call reads it again, so a rotated token needs no new client.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None
    server_name: str = ""
    token_file: str | Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        :raises InvalidRequest: a file can't be read, or half of the pair is missing
        """
        if (self.certificate is None) != (self.key is None):
            raise InvalidRequest("tls: certificate and key go together; give both or neither.")
        encrypted = grpc.ssl_channel_credentials(
            root_certificates=_read("ca", self.ca),
            private_key=_read("key", self.key),
            certificate_chain=_read("certificate", self.certificate),
        )
        if self.token_file is None:
            return encrypted
        return grpc.composite_channel_credentials(encrypted, grpc.metadata_call_credentials(_Token(self.token_file)))

    def options(self) -> Options:
        """Return the channel options for these files."""
        return (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()


class _Token(grpc.AuthMetadataPlugin):
    """Send the token of a file with each call; while the file can't be read, the one before."""

    def __init__(self, file: str | Path) -> None:
        self._file = Path(file)
        self._token = self._read()

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        with contextlib.suppress(InvalidRequest):
            self._token = self._read()
        callback((("authorization", f"Bearer {self._token}"),), None)

    def _read(self) -> str:
        try:
            lines = self._file.read_text(encoding="ascii").split()
        except OSError as error:
            raise InvalidRequest(f"tls: token_file {str(self._file)!a} can't be read ({error.strerror}).") from None
        except UnicodeDecodeError:
            lines = []
        if not lines:
            raise InvalidRequest(f"tls: token_file {str(self._file)!a} has no token in ASCII on its first line.")
        return lines[0]


def connect(target: str, tls: Tls | None, options: Options) -> grpc.Channel:
    """Open a channel; the first call connects it."""
    if tls is None:
        return grpc.insecure_channel(address(target), options)
    return grpc.secure_channel(address(target), tls.credentials(), (*options, *tls.options()))


def connect_aio(target: str, tls: Tls | None, options: Options) -> grpc.aio.Channel:
    """Open a channel for asyncio."""
    if tls is None:
        return grpc.aio.insecure_channel(address(target), options)
    return grpc.aio.secure_channel(address(target), tls.credentials(), (*options, *tls.options()))


def checked_target(target: str | None, channel: object | None, tls: Tls | None) -> str:
    """Return the target, empty if there is a channel instead.

    :raises InvalidRequest: both or neither are given, or `tls` with a channel
    """
    if (target is None) == (channel is None):
        given = "neither is" if target is None else "both are"
        raise InvalidRequest(f"target and channel: {given} given; give exactly one of them.")
    if channel is not None and tls is not None:
        raise InvalidRequest("tls: a channel brings its own credentials; leave tls out, or give a target.")
    return target or ""


def address(target: str) -> str:
    """Return the target for gRPC's resolver: a plain host:port becomes a DNS name, re-resolved on failure.

    :raises InvalidRequest: it is neither host:port nor one of gRPC's URIs, such as `unix:/run/model.sock`
    """
    if _GRPC_FORM.fullmatch(target):
        return target
    if _HOST_AND_PORT.fullmatch(target):
        return f"dns:///{target}"
    raise InvalidRequest(f"target {target!a} is not an address; write host:port, for example localhost:8001.")


def _read(name: str, path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"tls: {name} {str(path)!a} can't be read ({error.strerror}).") from None
    if b"-----BEGIN " not in content:
        raise InvalidRequest(f"tls: {name} {str(path)!a} is not a PEM file.")
    return content
