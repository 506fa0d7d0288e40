"""What the native transport does in its own way; all other tests of the platform hold on it too."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from serving.domain.errors import SettingsError
from serving.online.grpc.native import STOPPING, NativeServer
from serving.online.grpc.server import options
from serving.online.grpc.servicer import SERVICE
from serving.online.grpc.transport import make_server
from tests.platform.integration.test_tls import all_are, bearer, outcomes
from tests.platform.support.artifacts import tiny
from tests.platform.support.server import PATIENCE_S, serving
from tests.platform.support.services import fake_service
from tests.platform.support.wire import Wire

CALLS = 50
TOKEN = "token-of-a-test-1"


@dataclass
class Held:
    """A server whose calls wait until they are let go."""

    server: NativeServer
    wire: Wire
    go: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0

    async def answer(self, body: bytes, _context: object) -> bytes:
        self.running += 1
        await self.go.wait()
        return body

    async def start(self, count: int, body: bytes = b"x") -> list[asyncio.Task[bytes]]:
        """Make calls, and return once all of them run."""

        async def call() -> bytes:
            return await self.wire.call("ModelInfer", body)

        calls = [asyncio.create_task(call()) for _ in range(count)]
        async with asyncio.timeout(PATIENCE_S):
            while self.running != count:
                await asyncio.sleep(0)
        return calls


@asynccontextmanager
async def held() -> AsyncIterator[Held]:
    server = NativeServer([], options(1024 * 1024, 1.0))
    port = server.add_insecure_port("127.0.0.1:0")
    async with Wire(f"127.0.0.1:{port}") as wire:
        made = Held(server, wire)
        method = grpc.unary_unary_rpc_method_handler(made.answer)
        server.add_registered_method_handlers(SERVICE, {"ModelInfer": method})
        await server.start()
        try:
            yield made
        finally:
            await server.stop(0)


async def code_of(call: asyncio.Task[bytes]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    return refusal.value.code()


@pytest.mark.parametrize("body", [b"x", b"x" * 100_000], ids=["small", "100 kB"])
async def test_answers_given_right_before_the_end_arrive(body: bytes) -> None:
    for _ in range(3):
        async with held() as holding:
            calls = await holding.start(CALLS, body)
            stopping = asyncio.create_task(holding.server.stop(PATIENCE_S))
            holding.go.set()
            assert await asyncio.gather(*calls) == [body] * CALLS
            await stopping


async def test_while_it_stops_new_calls_are_refused_and_running_ones_answered() -> None:
    async with held() as holding:
        (running,) = await holding.start(1)
        stopping = asyncio.create_task(holding.server.stop(PATIENCE_S))
        await asyncio.sleep(0)
        assert await holding.wire.refused("ModelInfer", b"y") == (grpc.StatusCode.UNAVAILABLE, STOPPING)
        holding.go.set()
        assert await running == b"x"
        await stopping


@pytest.mark.parametrize("grace", [PATIENCE_S, 0], ids=["while it waits", "while it ends"])
async def test_a_stop_that_was_cancelled_can_be_repeated(grace: float) -> None:
    async with held() as holding:
        (running,) = await holding.start(1)
        stopping = asyncio.create_task(holding.server.stop(grace))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not stopping.done()
        stopping.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await holding.server.stop(0)
            await holding.server.stop(0)
        assert await code_of(running) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@pytest.mark.parametrize("encrypted", [False, True])
async def test_with_tls_grpcio_serves_and_one_line_says_so(encrypted: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        server = make_server([], options(1, 1.0), encrypted=encrypted)
    assert isinstance(server, NativeServer) is not encrypted
    said = ["grpcio carries the calls: the native transport has no support for TLS"] if encrypted else []
    assert [record.getMessage() for record in caplog.records] == said
    if not encrypted:
        await server.stop(0)


@pytest.mark.parametrize(("token", "code"), [("wrong", grpc.StatusCode.UNAUTHENTICATED), (TOKEN, grpc.StatusCode.OK)])
async def test_every_method_needs_a_token_if_there_are_any(folder: Path, token: str, code: grpc.StatusCode) -> None:
    tokens = folder / "tokens"
    tokens.write_text(f"{TOKEN}\n", encoding="ascii")
    async with serving(fake_service(tiny()), token_file=tokens, reflection=True) as wire:
        assert await outcomes(wire, bearer(token)) == all_are(code)


async def test_without_a_folder_for_its_socket_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(SettingsError, match="^TMPDIR: the native transport can't make a socket"):
        async with serving(fake_service(tiny()), reflection=True):
            pass
