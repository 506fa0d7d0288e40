"""Nothing that a caller does by HTTP grows without a bound or lasts for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from serving.online.rest import connection
from serving.online.rest.limits import Limits
from serving.online.telemetry import Metrics
from tests.platform.support.artifacts import tiny
from tests.platform.support.requests import MODEL
from tests.platform.support.rest import INFER, Rest, good_json, serving_rest
from tests.platform.support.server import PATIENCE_S
from tests.platform.support.services import fake_service

HEAD = b"GET /v2 HTTP/1.1\r\nHost: x\r\n"
POST = f"POST {INFER} HTTP/1.1\r\nHost: x\r\n".encode()
GOOD = json.dumps(good_json()).encode()

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(rest: Rest) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", rest.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes the connection; it may be reset."""
    found = b""
    async with asyncio.timeout(PATIENCE_S):
        try:
            while part := await reader.read(65536):
                found += part
        except ConnectionError:
            pass
    return found


async def exchange(rest: Rest, *parts: bytes) -> bytes:
    """Send parts of bytes one after the other, and return all that comes back until the connection ends."""
    async with connected(rest) as (reader, writer):
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
        except ConnectionError:
            pass  # it was ended early
        return await ended(reader)


@pytest.mark.parametrize(
    "parts",
    [
        [HEAD + b"A: " + b"a" * 20_000 + b"\r\n\r\n"],
        [HEAD + b"A: ", *[b"a" * 4096] * 10],
        [HEAD + b"A: a\r\n" * 5000 + b"\r\n"],
        [b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n"],
        [b"\r\n" * 4096] * 20,
    ],
    ids=["one field", "a field without end", "many fields", "path", "empty lines"],
)
async def test_the_head_of_a_request_has_a_bound(parts: list[bytes]) -> None:
    async with serving_rest(fake_service(MODEL)) as rest:
        answer = await exchange(rest, *parts)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"application/problem+json" in answer
        assert (await rest.infer(good_json())).status == 200


@pytest.mark.parametrize(
    "parts", [[b"\x16\x03\x01\x02\x00"], [b"HELLO\r\n\r\n"], [POST + b"Content-Length: x\r\n\r\n"]]
)
async def test_what_is_no_http_is_refused_as_a_problem(parts: list[bytes]) -> None:
    async with serving_rest(fake_service(MODEL)) as rest:
        answer = await exchange(rest, *parts)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"not an HTTP/1.1 request" in answer


async def test_a_body_with_two_lengths_is_refused() -> None:
    both = POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    async with serving_rest(fake_service(MODEL)) as rest:
        assert (await exchange(rest, both)).startswith(b"HTTP/1.1 400 ")


async def test_chunks_that_are_mostly_extensions_end_the_connection() -> None:
    chunk = b"1;" + b"e" * 8000 + b"\r\n \r\n"
    start = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    async with serving_rest(fake_service(MODEL)) as rest:
        await exchange(rest, start, *[chunk] * 50)
        assert (await rest.infer(good_json())).status == 200


async def test_small_chunks_and_fields_after_them_are_taken() -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD) + b"0\r\nTrailer: x\r\n\r\n"
    async with serving_rest(fake_service(MODEL)) as rest:
        answer = await exchange(rest, POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("part", [b"", b"\r\n", HEAD, POST + b"Content-Le"], ids=["nothing", "a line", "GET", "POST"])
async def test_a_caller_that_falls_silent_is_left(part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.05)
    async with serving_rest(fake_service(MODEL)) as rest:
        assert await exchange(rest, part) == b""


async def test_a_second_request_that_does_not_arrive_is_left_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.05)
    async with serving_rest(fake_service(MODEL)) as rest:
        answer = await exchange(rest, HEAD + b"\r\n" + HEAD)
    assert answer.count(b"HTTP/1.1 200 ") == 1


async def test_a_body_that_does_not_arrive_is_refused_at_the_deadline() -> None:
    start = POST + b"X-Request-Timeout: 0.05\r\nContent-Length: 100\r\n\r\n{"
    async with serving_rest(fake_service(MODEL)) as rest:
        answer = await exchange(rest, start)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"within 0.050 s" in answer


async def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    limit = Limits.of(fake_service(MODEL).model.signature).max_bytes
    async with serving_rest(fake_service(MODEL)) as rest:
        for length, status in ((limit, 400), (limit + 1, 413)):
            answer = await rest.infer(b" " * length)
            assert answer.status == status
        assert f"more than {limit} bytes" in answer.json["detail"]
        async with connected(rest) as (reader, writer):
            writer.write(POST + f"Content-Length: {limit + 1}\r\n\r\n".encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")


async def test_a_body_without_a_length_is_refused_once_it_is_too_long() -> None:
    limit = Limits.of(fake_service(MODEL).model.signature).max_bytes

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(limit // 65536 + 2):
            yield b" " * 65536

    async with serving_rest(fake_service(MODEL)) as rest:
        answer = await rest.ask("POST", INFER, data=parts())
        assert answer.status == 413
        assert (await rest.infer(good_json())).status == 200


async def test_a_refused_body_that_never_ends_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.05)
    start = POST + b"Content-Length: 999999999\r\n\r\n"
    async with serving_rest(fake_service(MODEL)) as rest, connected(rest) as (reader, writer):
        writer.write(start)
        assert (await ended(reader)).startswith(b"HTTP/1.1 413 ")


async def test_a_packed_body_is_refused() -> None:
    async with serving_rest(fake_service(MODEL)) as rest:
        answer = await rest.infer(GOOD, headers={"Content-Encoding": "gzip"})
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "identity")


async def test_bodies_on_their_way_share_a_bound() -> None:
    metrics = Metrics.create()
    service = fake_service(tiny(), max_rows=1)
    limit = Limits.of(service.model.signature).max_bytes
    object.__setattr__(service.budget, "limit", 0)  # the bound is one body then
    start = f"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {limit}\r\n\r\n".encode()
    async with serving_rest(service, metrics=metrics) as rest, connected(rest) as (_, writer):
        writer.write(start + b" " * (limit - 1))
        await writer.drain()
        answer = await rest.infer(b" " * limit, "/v2/models/tiny/infer")
        while answer.status != 503:  # the first body may not have been read yet
            answer = await rest.infer(b" " * limit, "/v2/models/tiny/infer")
        assert "are being read" in answer.json["detail"]
    assert metrics.registry.get_sample_value("serving_refused_total", {"reason": "memory"}) == 1


async def test_a_connection_too_many_takes_the_place_of_an_idle_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 2)
    async with serving_rest(fake_service(MODEL)) as rest:
        idle = [await asyncio.open_connection("127.0.0.1", rest.port) for _ in range(5)]
        assert (await exchange(rest, HEAD + b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        left = [await asyncio.wait_for(reader.read(), PATIENCE_S) for reader, _ in idle[:3]]
        assert left == [b""] * 3
        for _, writer in idle:
            writer.close()


async def test_a_caller_that_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WRITE_TIMEOUT_S", 0.05)
    async with serving_rest(fake_service(MODEL)) as rest, connected(rest) as (reader, writer):
        writer.write(HEAD + b"\r\n")
        await reader.readline()
        (served,) = connection_of(rest)
        served.pause_writing()  # as the transport does when its buffer is full
        await ended(reader)


def connection_of(rest: Rest) -> list[connection.Connection]:
    (entrypoint,) = rest.server._beside
    return list(entrypoint._state.connections)  # type: ignore[attr-defined]
