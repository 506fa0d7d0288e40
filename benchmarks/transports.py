"""Compare gRPC with REST on images: `make transports` writes docs/transports.md and docs/transports.svg.

One caller sends the same tensor by each path to a server that sends it back, each server in its own process. The paths
take turns, and the order is reversed every round. Then a proxy counts the bytes of a few calls.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import numpy as np

from benchmarks import messages
from benchmarks.messages import Call, Tensor

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "transports.md"
PICTURE = ROOT / "docs" / "transports.svg"

SHAPES: tuple[tuple[int, ...], ...] = ((1, 8, 8, 1), (1, 28, 28, 1), (1, 224, 224, 3))
GRPC = "gRPC, raw bytes"
PATHS: dict[str, tuple[str, Callable[[int], Call]]] = {
    GRPC: ("grpc", messages.grpc_raw),
    "REST, raw bytes (binary extension)": ("rest", messages.binary_tensor),
    "REST, JSON of the protocol, orjson": ("rest", messages.orjson_tensor),
    "REST, JSON of the protocol": ("rest", messages.json_tensor),
    "REST, JSON as TensorFlow Serving": ("rest", messages.json_rows),
}
_COUNTED = 5
_BEGIN, _END = "<!-- measured -->\n", "<!-- end of what was measured -->\n"


@dataclass(frozen=True)
class Figures:
    """Hold what one path took: milliseconds, its ratio to gRPC, and bytes of a call in both directions."""

    p50: float
    p99: float
    ratio: float
    wire: float


def main() -> int:
    """Measure, and write page and picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transports", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.5, help="least time of one measurement")
    parser.add_argument("--calls", type=int, default=35, help="least calls of one measurement")
    parser.add_argument("--rounds", type=int, default=4, help="number of rounds")
    options = parser.parse_args()
    with echo("grpc") as grpc_port, echo("rest") as rest_port:
        ports = {"grpc": grpc_port, "rest": rest_port}
        found = {shape: measured(shape, ports, options) for shape in SHAPES}
    PICTURE.write_text(drawn(found), encoding="utf-8", newline="\n")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(before + _BEGIN + table(found) + _END + after, encoding="utf-8", newline="\n")
    print(table(found))
    print(f"wrote {PAGE.relative_to(ROOT)} and {PICTURE.relative_to(ROOT)}")
    return 0


Found = dict[tuple[int, ...], dict[str, Figures]]


def measured(shape: Sequence[int], ports: dict[str, int], options: argparse.Namespace) -> dict[str, Figures]:
    """Measure all paths with one tensor, in turns."""
    tensor = np.random.default_rng(0).random(shape, np.float32)
    calls = {name: make(ports[server]) for name, (server, make) in PATHS.items()}
    for name, call in calls.items():
        if not np.array_equal(call(tensor), tensor):
            raise RuntimeError(f"{name}: the tensor came back changed")
    times: dict[str, list[list[float]]] = {name: [] for name in calls}
    for number in range(options.rounds):
        for name in list(calls)[:: -1 if number % 2 else 1]:
            times[name].append(durations(calls[name], tensor, options.seconds, options.calls))
    return {
        name: Figures(
            p50=statistics.median(flat := [each for round_ in times[name] for each in round_]) * 1e3,
            p99=float(np.percentile(flat, 99)) * 1e3,
            ratio=statistics.median(
                statistics.median(ours) / statistics.median(base)
                for ours, base in zip(times[name], times[GRPC], strict=True)
            ),
            wire=bytes_of_a_call(PATHS[name], ports, tensor),
        )
        for name in calls
    }


def durations(call: Call, tensor: Tensor, seconds: float, least: int) -> list[float]:
    """Return the seconds that each call took, for a while and `least` calls."""
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < least:
        start = time.perf_counter()
        call(tensor)
        taken.append(time.perf_counter() - start)
    return taken


def bytes_of_a_call(path: tuple[str, Callable[[int], Call]], ports: dict[str, int], tensor: Tensor) -> float:
    """Return the mean bytes of a call on a warm connection, headers included, both directions together."""
    server, make = path
    with counting(ports[server]) as (port, count):
        call = make(port)
        call(tensor)
        before = count()
        for _ in range(_COUNTED):
            call(tensor)
        return (count() - before) / _COUNTED


@contextmanager
def counting(target: int) -> Iterator[tuple[int, Callable[[], int]]]:
    """Forward one connection to a port; yield the port of the proxy and what returns the bytes so far."""
    passed = [0, 0]

    def forward(source: socket.socket, sink: socket.socket, side: int) -> None:
        with contextlib.suppress(OSError):  # the caller or the server is gone
            while content := source.recv(1 << 16):
                passed[side] += len(content)
                sink.sendall(content)

    def accept() -> None:
        caller, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", target))
        for number, (source, sink) in enumerate([(caller, server), (server, caller)]):
            threading.Thread(target=forward, args=(source, sink, number), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], lambda: sum(passed)


@contextmanager
def echo(kind: str) -> Iterator[int]:
    """Run a server until the block ends; yield its port."""
    command = [sys.executable, "-m", "benchmarks.echoes", kind]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline() if server.stdout else ""
            if not line:
                raise RuntimeError(f"{' '.join(command)} did not start; run it alone to see why.")
            yield int(line)
        finally:
            server.terminate()


def table(found: Found) -> str:
    """Return what was measured in Markdown."""
    day = datetime.now(UTC).date().isoformat()
    lines = [
        f"Measured on {day} over loopback, with {os.cpu_count()} cores and Python {platform.python_version()}.",
        "",
        "| tensor | path | p50 ms | p99 ms | time, gRPC = 1 | bytes of a call | bytes, gRPC = 1 |",
        "|---|---|---|---|---|---|---|",
    ]
    for shape, paths in found.items():
        for name, figures in paths.items():
            lines.append(
                f"| `{list(shape)}` | {name} | {figures.p50:.2f} | {figures.p99:.2f} | {figures.ratio:.2g} | "
                f"{figures.wire:,.0f} | {figures.wire / paths[GRPC].wire:.2g} |"
            )
    return "\n".join(lines) + "\n"


_WIDTH, _LEFT, _BAR, _GAP, _TOP = 860, 290, 18, 34, 56
_TITLE = "One call with an image and back, median in milliseconds (logarithmic scale; shorter is better)"
_COLORS = dict(zip(PATHS, ("#1a7f37", "#54aeff", "#d4a72c", "#bc4c00", "#a40e26"), strict=True))


def drawn(found: Found) -> str:
    """Return the medians as bars on a logarithmic scale."""
    values = [figures.p50 for paths in found.values() for figures in paths.values()]
    low, high = np.floor(np.log10(min(values))), np.ceil(np.log10(max(values)))

    def place(value: float) -> float:
        return float(_LEFT + (np.log10(value) - low) / (high - low) * (_WIDTH - _LEFT - 80))

    height = _TOP + len(found) * (len(PATHS) * _BAR + _GAP) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif">',
        "<style>text { font-size: 12px } text.title { font-size: 15px }</style>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text class="title" x="16" y="24">{_TITLE}</text>',
    ]
    for power in range(int(low), int(high) + 1):
        x = place(10.0**power)
        parts.append(f'<line x1="{x:.1f}" y1="34" x2="{x:.1f}" y2="{height - 24}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{10.0**power:g} ms</text>')
    top = _TOP
    for shape, paths in found.items():
        parts.append(f'<text x="16" y="{top}" font-weight="bold">{list(shape)} FP32</text>')
        for number, (name, figures) in enumerate(paths.items()):
            y = top + 8 + number * _BAR
            parts.append(f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>')
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{place(figures.p50) - _LEFT:.1f}" height="{_BAR - 4}" '
                f'fill="{_COLORS[name]}"/>'
            )
            parts.append(f'<text x="{place(figures.p50) + 5:.1f}" y="{y + 12}">{figures.p50:.2f}</text>')
        top += len(PATHS) * _BAR + _GAP
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
