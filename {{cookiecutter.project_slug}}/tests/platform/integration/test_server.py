"""The server's life in this process: what it opens, announces, drains and closes, whatever ends it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from serving.domain.errors import ModelFailed, NotReady
from serving.online.grpc import server as life
from serving.online.grpc.server import GrpcServer, options, serve
from serving.online.settings import Settings
from serving.online.telemetry import Metrics
from tests.platform.support.artifacts import tiny
from tests.platform.support.fakes import FakeRuntime
from tests.platform.support.server import PATIENCE_S, PORTS, parse_metrics
from tests.platform.support.services import answer_of, fake_service
from tests.platform.support.wire import NOT_SERVING, SERVING, Wire, request

REQUEST = request("tiny", {"base": [1.0], "value": [2.0]})
LONGEST_S = 300.0  # the settings allow no more


def test_each_limit_of_the_channel_is_set() -> None:
    assert dict(options(1234, 10.0)) == {
        "grpc.so_reuseport": 0,
        "grpc.max_receive_message_length": 1234,
        "grpc.max_send_message_length": -1,
        "grpc.max_concurrent_streams": 256,
        "grpc.max_connection_age_ms": 60_000,
        "grpc.max_connection_age_grace_ms": 15_000,
        "grpc.http2.min_ping_interval_without_data_ms": 10_000,
        "grpc.keepalive_permit_without_calls": 1,
    }


class Heard(logging.Handler):
    """Collect log records; wait for one by the beginning of its message."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records if record.name == life.__name__]

    async def wait(self, beginning: str, task: asyncio.Task[Any]) -> Any:
        """Return the record; fail if the task ends without it."""
        while True:
            for record in self.records:
                if record.getMessage().startswith(beginning):
                    return record
            assert not task.done(), task.exception()
            await asyncio.wait({task}, timeout=0.01)


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[Heard]:
    handler = Heard()
    root = logging.getLogger()
    root.addHandler(handler)
    with caplog.at_level(logging.INFO):
        yield handler
    root.removeHandler(handler)


@pytest.fixture
def _signals_are_harmless() -> Iterator[None]:
    """Keep a signal that the server does not handle from ending the tests."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    """Load this fake in place of any model."""
    made = FakeRuntime(answer_of(tiny()))
    monkeypatch.setattr("serving.online.bootstrap.load_runtime", lambda _artifact, *, threads: made)
    return made


@asynccontextmanager
async def started(folder: Path, **settings: Any) -> AsyncIterator[asyncio.Task[None]]:
    """Run a server on the files in the folder; it does not outlive the test."""
    tiny().lay_out(folder)
    places = {"model_lock": folder / "model.lock", "artifacts": folder / "artifacts"}
    chosen = Settings(**{**places, **dict.fromkeys(PORTS, 0), "drain": 0.0, "grace": 0.0, **settings})
    task = asyncio.create_task(serve(chosen))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, ModelFailed):
            await task


@asynccontextmanager
async def serving_gated(runtime: FakeRuntime, **settings: Any) -> AsyncIterator[tuple[Wire, GrpcServer, Metrics]]:
    """Serve with a model whose calls wait for its gate."""
    runtime.gate = asyncio.Event()
    metrics = Metrics.create()
    server = GrpcServer(Settings(**dict.fromkeys(PORTS, 0), **settings), fake_service(tiny(), runtime=runtime), metrics)
    try:
        ports = await server.start()
        async with Wire(f"127.0.0.1:{ports['grpc_port']}") as wire:
            yield wire, server, metrics
    finally:
        await within_patience(server.end())


async def within_patience(awaited: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaited, PATIENCE_S)


@pytest.mark.usefixtures("_signals_are_harmless")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_announces_its_ports_serves_until_a_signal_and_closes_all(
    folder: Path, heard: Heard, runtime: FakeRuntime, number: signal.Signals
) -> None:
    async with started(folder) as task:
        ports = await heard.wait("listening", task)
        metrics = f"http://127.0.0.1:{ports.metrics_port}/metrics"
        async with Wire(f"127.0.0.1:{ports.grpc_port}") as wire:
            assert (await wire.infer(REQUEST)).model_name == "tiny"
        assert (await asyncio.to_thread(parse_metrics, metrics))["serving_ready"] == 1
        signal.raise_signal(number)
        await within_patience(task)
    assert heard.messages == ["listening", "draining", "stopped"]
    assert runtime.closed
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(parse_metrics, metrics)


@pytest.mark.usefixtures("_signals_are_harmless")
@pytest.mark.usefixtures("runtime")
async def test_a_second_signal_skips_the_waits_of_the_first(folder: Path, heard: Heard) -> None:
    async with started(folder, drain=LONGEST_S, grace=LONGEST_S) as task:
        ports = await heard.wait("listening", task)
        async with Wire(f"127.0.0.1:{ports.grpc_port}") as wire:
            watched = wire.health.Watch(health_pb2.HealthCheckRequest(service=""), timeout=PATIENCE_S)
            assert (await watched.read()).status == SERVING
            signal.raise_signal(signal.SIGTERM)
            assert (await watched.read()).status == NOT_SERVING
            assert not task.done()
            signal.raise_signal(signal.SIGTERM)
            await within_patience(task)
    assert heard.messages[-1] == "stopped"


@pytest.mark.usefixtures("_signals_are_harmless")
async def test_a_signal_ends_a_start_that_waits_for_its_model(folder: Path, heard: Heard, runtime: FakeRuntime) -> None:
    runtime.fault = NotReady("the other process is not there yet.")
    async with started(folder) as task:
        await heard.wait("no model is served yet: the other process is not there yet.", task)
        signal.raise_signal(signal.SIGTERM)
        await within_patience(task)
    assert heard.messages == ["stopped before there was a model"]
    assert runtime.closed


async def test_a_stuck_model_ends_all_calls_and_the_server(
    folder: Path, heard: Heard, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    noticed = asyncio.Event()
    limits: list[float] = []

    async def watch(longest: Callable[[], float], call_timeout: float) -> None:
        limits.append(call_timeout)
        await noticed.wait()
        raise ModelFailed(f"stuck for {longest():.0f} s")

    monkeypatch.setattr(life, "watch", watch)
    async with started(folder, call_timeout=7.0, drain=LONGEST_S, grace=LONGEST_S) as task:
        ports = await heard.wait("listening", task)
        async with Wire(f"127.0.0.1:{ports.grpc_port}") as wire:
            runtime.gate = asyncio.Event()
            waiting = asyncio.ensure_future(wire.infer(REQUEST))
            await asyncio.wait({waiting}, timeout=0.05)
            noticed.set()
            with pytest.raises(ModelFailed, match="stuck for 0 s"):
                await within_patience(task)
            with pytest.raises(grpc.aio.AioRpcError):
                await within_patience(waiting)
    assert limits == [7.0]
    assert heard.messages == ["listening"]
    assert runtime.closed


async def test_an_end_leaves_no_call_and_no_port() -> None:
    runtime = FakeRuntime(answer_of(tiny()))
    async with serving_gated(runtime) as (wire, server, metrics):
        call = await in_progress(wire, runtime)
        assert metrics.registry.get_sample_value("serving_ready") == 1
        await within_patience(server.end())
        assert metrics.registry.get_sample_value("serving_ready") == 0
        with pytest.raises(grpc.aio.AioRpcError):
            await within_patience(call)
        assert not await answered(wire.target)


async def answered(target: str) -> bool:
    """Return whether a call on a new connection is answered."""
    async with Wire(target) as wire:
        try:
            await wire.call("ServerLive", b"", timeout=PATIENCE_S)
        except grpc.aio.AioRpcError:
            return False
        return True


async def in_progress(wire: Wire, runtime: FakeRuntime) -> asyncio.Future[Any]:
    """Start a call and wait until the model has it."""
    call = asyncio.ensure_future(wire.infer(REQUEST))
    while not runtime.calls:
        assert not call.done()
        await asyncio.wait({call}, timeout=0.01)
    return call


async def test_a_drain_answers_the_calls_in_progress_and_takes_no_more() -> None:
    runtime = FakeRuntime(answer_of(tiny()))
    async with serving_gated(runtime, drain=0.0, grace=LONGEST_S) as (wire, server, metrics):
        call = await in_progress(wire, runtime)
        draining = asyncio.ensure_future(server.drain(asyncio.Event()))
        while await answered(wire.target):
            assert not draining.done()
        assert metrics.registry.get_sample_value("serving_ready") == 0
        assert not call.done()
        assert runtime.gate is not None
        runtime.gate.set()
        assert (await within_patience(call)).model_name == "tiny"
        await within_patience(draining)


async def test_a_call_that_outlasts_the_grace_period_is_ended() -> None:
    runtime = FakeRuntime(answer_of(tiny()))
    async with serving_gated(runtime, drain=0.0, grace=0.05) as (wire, server, _):
        call = await in_progress(wire, runtime)
        await within_patience(server.drain(asyncio.Event()))
        with pytest.raises(grpc.aio.AioRpcError):
            await within_patience(call)


async def test_a_hurried_drain_waits_neither_for_load_balancers_nor_for_calls() -> None:
    runtime = FakeRuntime(answer_of(tiny()))
    hurry = asyncio.Event()
    async with serving_gated(runtime, drain=LONGEST_S, grace=LONGEST_S) as (wire, server, _):
        call = await in_progress(wire, runtime)
        draining = asyncio.ensure_future(server.drain(hurry))
        await asyncio.wait({draining}, timeout=0.05)
        assert not call.done()
        hurry.set()
        await within_patience(draining)
        with pytest.raises(grpc.aio.AioRpcError):
            await within_patience(call)


async def test_a_hurry_during_the_grace_period_counts_too() -> None:
    runtime = FakeRuntime(answer_of(tiny()))
    hurry = asyncio.Event()
    async with serving_gated(runtime, drain=0.0, grace=LONGEST_S) as (wire, server, _):
        call = await in_progress(wire, runtime)
        draining = asyncio.ensure_future(server.drain(hurry))
        await asyncio.wait({draining}, timeout=0.05)
        assert not draining.done()
        assert not call.done()
        hurry.set()
        await within_patience(draining)
        with pytest.raises(grpc.aio.AioRpcError):
            await within_patience(call)
