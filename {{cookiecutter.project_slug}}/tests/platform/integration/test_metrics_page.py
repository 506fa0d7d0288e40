"""The metrics endpoint against callers that send nothing, too much or something else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from serving.domain.errors import SettingsError
from serving.domain.references import Reference
from serving.online.metrics_page import MAX_CONNECTIONS, MAX_HEADER_BYTES, MetricsPage
from serving.online.telemetry import Metrics
from tests.platform.support.server import needs_ipv6, parse_metrics

IDLE = 160
GET = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n"


@asynccontextmanager
async def page(host: str = "127.0.0.1", *, timeout: float = 60.0) -> AsyncIterator[tuple[Metrics, int]]:
    metrics = Metrics.create()
    served = MetricsPage(metrics.registry, timeout=timeout)
    try:
        yield metrics, await served.start(host, 0)
    finally:
        await served.close()


async def answer(port: int, request: bytes, host: str = "127.0.0.1") -> str:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()


async def test_the_page_has_every_metric_and_names_the_model() -> None:
    async with page() as (metrics, port):
        metrics.announce(Reference("local", "tiny", "7", "sha256=00"), (), CollectorRegistry())
        found = await asyncio.to_thread(parse_metrics, f"http://127.0.0.1:{port}/metrics")
    assert found["serving_model_info{digest=sha256=00,model=tiny,version=7}"] == 1
    assert found["serving_ready"] == 0
    assert found["serving_in_flight"] == 0


@needs_ipv6
@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_it_listens_on_ipv6(host: str) -> None:
    async with page(host) as (_, port):
        assert (await answer(port, GET, "::1")).startswith("HTTP/1.1 200 OK")


async def test_idle_connections_take_neither_threads_nor_the_page_from_a_scraper() -> None:
    async with page() as (_, port), AsyncExitStack() as idle:
        threads = threading.active_count()
        for _ in range(IDLE):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            idle.callback(writer.close)
        assert (await answer(port, GET)).startswith("HTTP/1.1 200 OK")
        assert threading.active_count() <= threads  # one of an earlier test may end meanwhile


async def test_connections_are_bounded_and_the_oldest_silent_one_makes_room() -> None:
    async with page() as (_, port), AsyncExitStack() as idle:
        readers = []
        for _ in range(MAX_CONNECTIONS + 1):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            idle.callback(writer.close)
            readers.append(reader)
        assert await readers[0].read() == b""
        assert not readers[1].at_eof()


async def test_answered_connections_make_no_silent_one_leave() -> None:
    async with page() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(MAX_CONNECTIONS + 1):
            await answer(port, GET)
        writer.write(GET)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
        writer.close()


async def test_a_connection_that_sends_nothing_is_closed() -> None:
    async with page(timeout=0.05) as (_, port):
        assert await answer(port, b"GET /metrics HTTP/1.1\r\n") == ""


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
        (b"GET /secrets HTTP/1.1\r\n\r\n", "404"),
        (b"GET / HTTP/1.1\r\n\r\n", "200"),
        (b"GET /metrics?name=x HTTP/1.1\r\n\r\n", "200"),
        (b"nonsense\r\n\r\n", "400"),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", "400"),
        (b"GET /metrics HTTP/2.0\r\n\r\n", "400"),
        (b"GET /metrics HTTP/1.1 more\r\n\r\n", "400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * MAX_HEADER_BYTES + b"\r\n\r\n", "431"),
    ],
)
async def test_only_a_small_get_of_the_page_is_answered(request_bytes: bytes, status: str) -> None:
    async with page() as (_, port):
        assert (await answer(port, request_bytes)).startswith(f"HTTP/1.1 {status} ")


@pytest.mark.parametrize(
    ("request_bytes", "status", "more"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed", "Allow: GET\r\n"),
        (b"GET /secrets HTTP/1.1\r\n\r\n", "404 Not Found", ""),
        (b"nonsense\r\n\r\n", "400 Bad Request", ""),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEADER_BYTES + b"\r\n\r\n", "431 Request Header Fields Too Large", ""),
    ],
)
async def test_a_refusal_is_a_whole_answer_without_a_body(request_bytes: bytes, status: str, more: str) -> None:
    async with page() as (_, port):
        assert await answer(port, request_bytes) == (
            f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n{more}Connection: close\r\n\r\n"
        )


OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@pytest.mark.parametrize(
    ("accepted", "kind", "end"),
    [
        ("", "text/plain; ", ""),
        (f"Accept: {OPEN_METRICS}\r\n", OPEN_METRICS, "# EOF\n"),
        # One list in two headers, in whatever letters.
        (f"ACCEPT: text/html\r\naccept:{OPEN_METRICS}\r\n", OPEN_METRICS, "# EOF\n"),
        (f"X-Accept: {OPEN_METRICS}\r\n", "text/plain; ", ""),
    ],
)
async def test_a_scraper_gets_the_format_that_it_accepts(accepted: str, kind: str, end: str) -> None:
    async with page() as (_, port):
        whole = await answer(port, f"GET /metrics HTTP/1.1\r\n{accepted}\r\n".encode())
    head, _, body = whole.partition("\r\n\r\n")
    status, content_type, *rest = head.split("\r\n")
    assert status == "HTTP/1.1 200 OK"
    assert content_type.startswith(f"Content-Type: {kind}")
    assert rest == [f"Content-Length: {len(body)}", "Connection: close"]
    assert body.endswith(f"serving_ready 0.0\n{end}")


async def test_after_the_end_nobody_listens_and_open_connections_are_dropped() -> None:
    async with page() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await answer(port, GET)  # the first connection is known by now
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_taken_port_is_reported_with_its_setting() -> None:
    async with page() as (_, port):
        with pytest.raises(SettingsError, match=f"SERVING_METRICS_PORT={port}: can't listen on 127.0.0.1:{port}"):
            await MetricsPage(Metrics.create().registry).start("127.0.0.1", port)


async def test_a_foreign_address_is_reported_with_its_setting() -> None:
    with pytest.raises(SettingsError, match=r"^SERVING_METRICS_HOST=192\.0\.2\.1: can't listen on 192\.0\.2\.1:0 \("):
        await MetricsPage(Metrics.create().registry).start("192.0.2.1", 0)
