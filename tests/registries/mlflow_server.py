"""A real MLflow server on this machine, on SQLite, that serves artifacts itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local_extensions import ROOT_FOLDER
from tests.support import ROOT
from tools.environment import Environment

# It imports a lot, and migrates its database: up to 47 s were measured.
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
HOST = "127.0.0.1"


def interpreter() -> Path:
    """Make the environment that the server's image has."""
    image = ROOT / ROOT_FOLDER / "_variants" / "model_registry" / "mlflow" / "mlflow-server"
    return Environment(ROOT / "build" / "mlflow" / ".venv").ensure([image / "requirements" / "server.txt"])


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run a server with its data in a folder; yield its address."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    uri, log = f"http://{HOST}:{port}", folder / "server.log"
    command = [
        *(str(interpreter()), "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{(folder / 'mlflow.db').as_posix()}"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    surroundings = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with log.open("wb") as output:
        # A separate process group: the server starts workers, and they must end with it.
        process = subprocess.Popen(
            command, cwd=folder, env=surroundings, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_until_healthy(process, uri, log)
            yield uri
        finally:
            _stop(process)


def _wait_until_healthy(process: subprocess.Popen[bytes], uri: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):  # noqa: S310 - an address made above
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    message = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise AssertionError(f"the MLflow server did not start within {START_TIMEOUT_S:g} s:\n{message}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_TIMEOUT_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
