"""Call a server: once with a client of Python, whose answer is read, or under load by h2load."""

from __future__ import annotations

import http.client
import re
import shutil
import statistics
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from benchmarks.peers.forms import GRPC, Answer, Endpoint, Request
from benchmarks.peers.models import Array

HOST = "127.0.0.1"
_TIMEOUT_S = 30.0
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # else a refused connection delays the next channel's
]
_SPARE_S = 60.0
_ATTEMPTS = 3
"""On a busy machine h2load may not get to its first call in time."""
_RELATIVE, _ABSOLUTE = 1e-4, 1e-6
"""ONNX computes in FP32."""
_COMPLETE = 0.97
"""gRPC errors are answers without a body: h2load, which reads no gRPC status, counts bytes."""


class PeerError(Exception):
    """A server can't be measured; the text is one sentence."""


class WrongAnswerError(PeerError):
    """A server answers, but not what the model says."""


@dataclass(frozen=True)
class Load:
    """Hold one measurement: milliseconds of a call, calls per second, calls, and those that failed."""

    p50: float
    p99: float
    rate: float
    calls: int
    failed: int


def h2load() -> str:
    """Return the path of h2load.

    :raises PeerError: it is not installed
    """
    found = shutil.which("h2load")
    if not found:
        raise PeerError(
            "h2load is not on the PATH; install it: `apt-get install nghttp2-client` or `brew install nghttp2`."
        )
    return found


def h2load_version() -> str:
    """Return the name and version of the load generator.

    :raises PeerError: it is not installed
    """
    printed = subprocess.run([h2load(), "--version"], check=True, capture_output=True, text=True, timeout=_TIMEOUT_S)
    return printed.stdout.strip()


def once(endpoint: Endpoint, port: int, request: Request) -> Answer:
    """Send one request.

    :raises PeerError: it was refused, or answered with an error
    """
    try:
        return _grpc(port, request) if endpoint.transport == GRPC else _http(port, request)
    except grpc.RpcError as error:
        raise PeerError(f"{request.path} was answered with {error.code().name}: {error.details()}") from None
    except (OSError, http.client.HTTPException) as error:
        raise PeerError(f"{request.path} got no answer: {error}") from None


def _grpc(port: int, request: Request) -> Answer:
    with grpc.insecure_channel(f"{HOST}:{port}", _OPTIONS) as channel:
        return Answer(channel.unary_unary(request.path)(request.body, timeout=_TIMEOUT_S))


def _http(port: int, request: Request) -> Answer:
    connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", request.path, request.body, dict(request.headers))
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise PeerError(f"{request.path} was answered with {response.status}: {body[:200].decode(errors='replace')}")
    return Answer(body, {name.lower(): value for name, value in response.headers.items()})


def checked(endpoint: Endpoint, port: int, rows: Array, expected: Array) -> Answer:
    """Send rows; return the answer, which must be the expected one.

    :raises WrongAnswerError: it can't be read, or has other numbers
    :raises PeerError: there is no answer
    """
    answer = once(endpoint, port, endpoint.request(rows))
    try:
        numbers = endpoint.answer(answer)
    except (DecodeError, LookupError, TypeError, ValueError) as error:
        raise WrongAnswerError(
            f"the answer of {endpoint.title} can't be read: {type(error).__name__}: {error}"
        ) from None
    if numbers.shape != expected.shape or not np.allclose(numbers, expected, _RELATIVE, _ABSOLUTE):
        raise WrongAnswerError(f"{endpoint.title} answered {numbers[:4]}, must be {expected[:4]}")
    return answer


def load(endpoint: Endpoint, port: int, request: Request, answer: Answer, callers: int, seconds: float) -> Load:
    """Put a server under load: each caller sends its next request after the answer to the last.

    :raises PeerError: no call was answered
    """
    framing = b""
    command = [h2load(), "--clients", str(callers), "--max-concurrent-streams", "1"]
    if endpoint.transport == GRPC:
        framing = b"\0" + struct.pack(">I", len(request.body))
        command += ["--header", "content-type: application/grpc", "--header", "te: trailers"]
    else:
        command.append("--h1")
        for name, value in request.headers.items():
            command += ["--header", f"{name}: {value}"]
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(framing + request.body)
        command += ["--data", str(body), f"http://{HOST}:{port}{request.path}"]
        printed, took = "", list[float]()
        for _ in range(_ATTEMPTS):
            printed = _run([*command, "--duration", f"{seconds * 1e3:.0f}ms", "--log-file", str(log)], seconds)
            took = [int(line.split("\t")[2]) / 1e3 for line in log.read_text(encoding="ascii").splitlines()]
            if took:
                break
    return figures(printed, took, len(framing) + len(answer.body), seconds)


def _run(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=seconds + _SPARE_S
        )
    except subprocess.TimeoutExpired:
        raise PeerError(f"the load did not end within {_SPARE_S:.0f} s") from None
    if done.returncode:
        raise PeerError(f"h2load failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return done.stdout


def figures(printed: str, took: list[float], size: int, seconds: float) -> Load:
    """Read the output of h2load, and the milliseconds of its log; a good answer has a body of `size` bytes.

    :raises PeerError: no call was answered
    """
    counts = re.search(r"(\d+) done, (\d+) succeeded", printed)
    data = re.search(r"\((\d+)\) data$", printed, re.MULTILINE)
    if not counts or not data:
        raise PeerError(f"h2load printed no figures: {printed.strip()[-200:]}")
    done, succeeded = int(counts[1]), int(counts[2])
    if not succeeded or not took:
        raise PeerError(f"none of {done} calls under load was answered")
    whole = int(data[1]) / size
    failed = done - succeeded if whole >= _COMPLETE * done else done - min(succeeded, int(whole))
    cuts = statistics.quantiles(took, n=100) if len(took) > 1 else took * 99
    return Load(cuts[49], cuts[98], succeeded / seconds, done, failed)
