"""Which Ray cluster the operator names, and what Ray reads from the environment when it is imported."""

from __future__ import annotations

import os
import re
import secrets
import socket

from serving.domain.errors import OperatorError, quoted

_VARIABLE = "RAY_ADDRESS"
_TIMEOUT_S = 5.0


def prepare() -> None:
    """Set what Ray reads at its import: no reports to its makers, few log lines, and on this machine a secret.

    :raises OperatorError: the operator's cluster can't be reached
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if not reached():
        # Ray listens on every interface, and runs what it is sent.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def reached() -> str:
    """Return the address of a cluster that answers; `auto` for the one on this machine, nothing to start one here.

    Ray itself tries for minutes to reach a cluster that is not there.

    :raises OperatorError: the address can't be reached
    """
    address = os.environ.get(_VARIABLE, "")
    if address in ("", "local", "auto"):
        return address.replace("local", "")
    if not re.fullmatch(r"[^/\s]+:\d{1,5}", address):
        raise OperatorError(
            f"{_VARIABLE}={quoted(address)}: must be HOST:PORT or auto; run the command on a node of the cluster."
        )
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise refusal(address, getattr(error, "strerror", None) or str(error)) from None
    return address


def refusal(address: str, cause: str) -> OperatorError:
    """Return the error for a cluster that can't be joined."""
    return OperatorError(
        f"{_VARIABLE}={quoted(address)}: can't join a Ray cluster there ({cause.rstrip('.')}); start one with `ray "
        f"start --head`, correct the address, or unset {_VARIABLE} to use this machine alone."
    )
