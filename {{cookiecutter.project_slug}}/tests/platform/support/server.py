"""The real server: in a separate process, or in this one around any service."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.domain.settings import default_store_url
from serving.online.grpc.server import GrpcServer
from serving.online.inference import Service
from serving.online.settings import Settings
from serving.online.telemetry import Metrics
from serving.online.tracing import Tracing
from tests.platform.support.wire import Wire
from tests.platform.support.workspace import THIS_REPO, environment

PATIENCE_S = 60.0
"""How long a test waits for what must happen; only a test that fails waits that long."""

PORTS = tuple(name for name in Settings.model_fields if name.endswith("_port"))
"""The settings of all ports; 0 takes a free one."""

Record = dict[str, Any]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


@asynccontextmanager
async def serving(
    service: Service, *, metrics: Metrics | None = None, tracing: Tracing | None = None, **settings: Any
) -> AsyncIterator[Wire]:
    """Serve a service in this process on a free port; yield a connection to it."""
    chosen = Settings(**{**dict.fromkeys(PORTS, 0), "drain": 0.0, "grace": 0.0, **settings})
    server = GrpcServer(chosen, service, metrics or Metrics.create(), tracing)
    ports = await server.start()
    try:
        async with Wire(f"127.0.0.1:{ports['grpc_port']}") as wire:
            yield wire
    finally:
        await server.drain(asyncio.Event())


class ServerProcess:
    """Run the server in a folder; its log is read by a thread, line by line, as it comes.

    Ports are free ones that the server chooses and logs, and it does not wait before it refuses new calls.
    """

    def __init__(self, folder: Path, *, module: str = "serving", **variables: str) -> None:
        chosen = {f"SERVING_{name.upper()}": "0" for name in (*PORTS, "drain")}
        if not (folder / "config").exists():
            chosen["SERVING_FEATURE_STORE"] = default_store_url()
        code = folder if (folder / "src").exists() else THIS_REPO
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=folder,
            env=environment(code, **(chosen | variables)),
            stderr=subprocess.PIPE,
            text=True,
        )
        self._changed = threading.Condition()
        self._ended = False
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        assert self._process.stderr is not None
        self._process.stderr.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.wait_until_listening()['grpc_port']}"

    def wait_until_listening(self) -> Record:
        """Wait for the log line with the server's address."""
        return self.wait_for(lambda record: "grpc_port" in record)

    def wait_for(self, wanted: Callable[[Record], bool]) -> Record:
        """Wait for a record in the log."""
        seen = 0
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    record = json.loads(line) if line.startswith("{") else {}
                    if wanted(record):
                        return dict(record)
                seen = len(self.lines)
                if self._ended or not self._changed.wait(PATIENCE_S):
                    raise AssertionError("the server did not log what was waited for:\n" + self.log)

    def stop(self) -> int:
        """Send SIGTERM and wait for the end; return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end of the process and its log; return the exit code."""
        code = self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def kill(self) -> None:
        """End the process, if it has not ended yet, and read its log to the end."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def metrics(self) -> dict[str, float]:
        """Read the metrics page; keys are as on the page: name, then labels in braces."""
        return parse_metrics(f"http://127.0.0.1:{self.wait_until_listening()['metrics_port']}/metrics")

    def resident_bytes(self) -> int:
        """Return the memory that the process occupies (Linux)."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def parse_metrics(url: str) -> dict[str, float]:
    """Read a page of metrics."""
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:  # noqa: S310 - the URL is our own
        page = answer.read().decode()
    samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
    return {
        sample.name
        + (
            "{" + ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items())) + "}" if sample.labels else ""
        ): sample.value
        for sample in samples
    }
