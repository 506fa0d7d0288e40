"""Which Ray cluster the operator names; Ray itself tries for minutes to reach one that is not there."""

from __future__ import annotations

import os
import re
import socket

from serving.domain.errors import OperatorError, quoted

_VARIABLE = "RAY_ADDRESS"
_TIMEOUT_S = 5.0


def reached() -> str:
    """Return the address of a cluster that answers; `auto` for the one on this machine, nothing to start one here.

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
