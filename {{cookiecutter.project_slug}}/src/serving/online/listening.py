"""Addresses to listen on: how they are written, and why one can't be used."""

from __future__ import annotations

import errno
import socket

from serving.domain.errors import SettingsError


def bare(host: str) -> str:
    """Return a host without the brackets of an IPv6 address."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def address(host: str, port: int) -> str:
    """Return host:port, with an IPv6 address in brackets."""
    return f"[{bare(host)}]:{port}" if ":" in bare(host) else f"{host}:{port}"


def refusal(kind: str, host: str, port: int, cause: OSError | None) -> SettingsError:
    """Return the error for an address that can't be used; `kind` is the middle of its variables' names."""
    where = address(host, port)
    reason = cause or _cause(bare(host), port)
    if reason is None or reason.errno == errno.EADDRINUSE:
        return SettingsError(
            f"SERVING_{kind}PORT={port}: can't listen on {where}; "
            "another process uses the port, perhaps your own `make run`; stop it or choose another port."
        )
    name = "PORT" if reason.errno == errno.EACCES else "HOST"
    prefix = kind if name == "PORT" else kind.replace("GRPC_", "")
    value = port if name == "PORT" else host
    return SettingsError(
        f"SERVING_{prefix}{name}={value}: can't listen on {where} ({reason.strerror}); "
        "choose an address of this machine, such as localhost, and a port that you may use."
    )


def _cause(host: str, port: int) -> OSError | None:
    """Bind the address once more: gRPC reports only that it failed."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(place)
    except OSError as error:
        return error
    return None
