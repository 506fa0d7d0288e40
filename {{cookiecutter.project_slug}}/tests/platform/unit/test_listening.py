from __future__ import annotations

import errno
import os
import socket

import pytest

from serving.online.listening import address, bare, refusal


@pytest.mark.parametrize(
    ("host", "without", "listening"),
    [
        ("localhost", "localhost", "localhost:8001"),
        ("0.0.0.0", "0.0.0.0", "0.0.0.0:8001"),  # noqa: S104 - a name, nothing listens
        ("::1", "::1", "[::1]:8001"),
        ("[::1]", "::1", "[::1]:8001"),
        ("[half", "[half", "[half:8001"),
        ("half]", "half]", "half]:8001"),
    ],
)
def test_an_ipv6_address_may_have_brackets_and_gets_them(host: str, without: str, listening: str) -> None:
    assert bare(host) == without
    assert address(host, 8001) == listening


def cause(number: int) -> OSError:
    return OSError(number, os.strerror(number))


TAKEN = "another process uses the port, perhaps your own `make run`; stop it or choose another port."
OTHER = "choose an address of this machine, such as localhost, and a port that you may use."


@pytest.mark.parametrize(
    ("kind", "number", "sentence"),
    [
        ("GRPC_", errno.EADDRINUSE, f"SERVING_GRPC_PORT=80: can't listen on [::1]:80; {TAKEN}"),
        ("GRPC_", errno.EACCES, f"SERVING_GRPC_PORT=80: can't listen on [::1]:80 (Permission denied); {OTHER}"),
        ("METRICS_", errno.EACCES, f"SERVING_METRICS_PORT=80: can't listen on [::1]:80 (Permission denied); {OTHER}"),
        ("GRPC_", errno.ENODEV, f"SERVING_HOST=::1: can't listen on [::1]:80 (No such device); {OTHER}"),
        ("METRICS_", errno.ENODEV, f"SERVING_METRICS_HOST=::1: can't listen on [::1]:80 (No such device); {OTHER}"),
    ],
)
def test_a_refusal_names_the_setting_to_change(kind: str, number: int, sentence: str) -> None:
    assert str(refusal(kind, "::1", 80, cause(number))) == sentence


def test_without_a_cause_the_address_is_tried_once_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "another process uses the port" in str(refusal("GRPC_", "127.0.0.1", port, None))
    text = str(refusal("GRPC_", "192.0.2.1", port, None))
    assert text.startswith(f"SERVING_HOST=192.0.2.1: can't listen on 192.0.2.1:{port} (")
