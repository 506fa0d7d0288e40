"""Failures that a client hides from its caller, and those that it reports in time."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from typing import Any

import grpc
import pytest

from serving_client import DeadlineExceeded, InvalidRequest, Overloaded, ServerFault, ServingClientError, Unavailable
from tests.platform.support.callers import PATIENCE_S, Caller
from tests.platform.support.fake_server import NOT_SERVING, SERVING, FakeServer, Hold, refuse

from .conftest import Connect, Serve

ONE = {"numbers": [1.0]}
SHORT_S = 0.3


async def in_time(call: Coroutine[Any, Any, Any]) -> None:
    """Fail instead of waiting forever if a client ignores its deadline."""
    async with asyncio.timeout(PATIENCE_S):
        await call


async def answered_by(client: Caller) -> str:
    return (await client.predict(ONE, timeout=PATIENCE_S)).model_version


class ClosedDoor:
    """A port that closes every connection at once."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._knocked = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.close()
            self._knocked.set()

    def wait_knock(self) -> None:
        assert self._knocked.wait(PATIENCE_S)

    def remove(self) -> None:
        """Free the port."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_S)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
@pytest.mark.parametrize("rows", [1, 250_000], ids=["small", "1 MB"])
async def test_a_refusal_by_a_stopping_server_is_retried(
    server: FakeServer, connect: Connect, rows: int, code: grpc.StatusCode
) -> None:
    server.script("ModelInfer", *[refuse(code)] * 2)
    answer = await connect(server.target).predict({"numbers": [1.0] * rows}, timeout=PATIENCE_S)
    assert server.request_ids("ModelInfer") == [answer.request_id] * 3


async def test_a_server_that_stays_unavailable_is_reported(server: FakeServer, connect: Connect) -> None:
    server.script("ModelInfer", *[refuse(grpc.StatusCode.UNAVAILABLE, "the feature store is unavailable.")] * 10)
    with pytest.raises(Unavailable, match=r"^the feature store is unavailable\.$"):
        await connect(server.target).predict(ONE, timeout=PATIENCE_S)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.INTERNAL, ServerFault),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
    ],
    ids=lambda value: value.name if isinstance(value, grpc.StatusCode) else "",
)
async def test_other_refusals_are_not_retried(
    server: FakeServer, connect: Connect, code: grpc.StatusCode, error: type[ServingClientError]
) -> None:
    server.script("ModelInfer", refuse(code, "no."))
    with pytest.raises(error, match=r"^no\.$"):
        await connect(server.target).predict(ONE, timeout=PATIENCE_S)
    assert len(server.request_ids("ModelInfer")) == 1


async def test_a_server_that_starts_late_is_waited_for(serve: Serve, connect: Connect) -> None:
    door = ClosedDoor()
    call = asyncio.create_task(answered_by(connect(f"127.0.0.1:{door.port}")))
    await asyncio.to_thread(door.wait_knock)
    door.remove()
    serve(port=door.port)
    assert await call == "1"


async def test_a_server_that_never_starts_is_waited_for_until_the_deadline(connect: Connect) -> None:
    door = ClosedDoor()
    # Long enough for a client without wait-for-ready to use up its retries and raise Unavailable.
    with pytest.raises(DeadlineExceeded, match="no answer within the timeout; a health check says"):
        await in_time(connect(f"127.0.0.1:{door.port}").predict(ONE, timeout=2.0))
    door.remove()


async def test_a_server_killed_and_restarted_loses_no_call(serve: Serve, connect: Connect) -> None:
    first = serve(version="1")
    holds = [Hold() for _ in range(8)]
    first.script("ModelInfer", *holds)
    client = connect(first.target)
    calls = [asyncio.create_task(answered_by(client)) for _ in holds]
    for hold in holds:
        await asyncio.to_thread(hold.wait_entered)
    await asyncio.to_thread(first.kill)
    serve(port=first.port, version="2")
    assert await asyncio.gather(*calls) == ["2"] * len(holds)


async def test_the_deadline_ends_a_hanging_call_on_the_server_too(server: FakeServer, connect: Connect) -> None:
    hold = Hold()
    server.script("ModelInfer", hold)
    with pytest.raises(DeadlineExceeded, match="no answer within the timeout"):
        await in_time(connect(server.target).predict(ONE, timeout=SHORT_S))
    await asyncio.to_thread(hold.wait_over)


async def test_the_deadline_covers_reading_the_metadata_again(server: FakeServer, connect: Connect) -> None:
    hold = Hold()
    client = connect(server.target)
    await client.predict(ONE, timeout=PATIENCE_S)
    server.script("ModelMetadata", hold)
    with pytest.raises(InvalidRequest, match="'letters' is unknown"):
        await in_time(client.predict({"letters": ["a"]}, timeout=SHORT_S))
    await asyncio.to_thread(hold.wait_over)


async def test_a_draining_server_gets_no_new_calls_until_it_serves_again(serve: Serve, connect: Connect) -> None:
    draining, other = serve(version="draining"), serve(version="other")
    client = connect(f"ipv4:{draining.target},{other.target}")
    await until_all_answer(client, {"draining", "other"})
    draining.set_health(NOT_SERVING)
    await until_all_answer(client, {"other"})
    draining.set_health(SERVING)
    await until_all_answer(client, {"draining", "other"})


async def until_all_answer(client: Caller, wanted: set[str]) -> None:
    """Call until ten calls in a row have been answered by all of these servers and no other."""
    seen: list[str] = []
    for _ in range(2_000):
        seen.append(await answered_by(client))
        if len(seen) >= 10 and set(seen[-10:]) == wanted:
            return
    pytest.fail(f"never answered by {wanted}, last by {seen[-10:]}")


async def test_a_call_waits_for_a_server_that_is_not_serving_yet(serve: Serve, connect: Connect) -> None:
    server = serve(serves=NOT_SERVING)
    call = asyncio.create_task(answered_by(connect(server.target)))
    await asyncio.to_thread(server.wait_for, "Watch")
    assert server.request_ids("ModelMetadata") == []
    server.set_health(SERVING)
    assert await call == "1"


async def test_a_server_without_health_checks_is_called(serve: Serve, connect: Connect) -> None:
    server = serve(serves=None)
    client = connect(server.target)
    assert await answered_by(client) == "1"
    with pytest.raises(ServerFault, match="has no such call"):
        await client.health(timeout=PATIENCE_S)


async def test_health_is_checked_for_the_prediction_service(serve: Serve, connect: Connect) -> None:
    server = serve(serves=NOT_SERVING)
    client = connect(server.target)
    assert await client.health(timeout=PATIENCE_S) == "NOT_SERVING"
    assert not await client.is_ready(timeout=PATIENCE_S)
    server.set_health(SERVING)
    assert await client.is_ready(timeout=PATIENCE_S)


async def test_the_health_of_a_missing_server_is_unavailable_at_once(connect: Connect) -> None:
    door = ClosedDoor()
    with pytest.raises(Unavailable):
        await connect(f"127.0.0.1:{door.port}").health(timeout=PATIENCE_S)
    door.remove()


async def test_watching_shows_every_change(server: FakeServer, connect: Connect) -> None:
    statuses = connect(server.target).watch_health(timeout=PATIENCE_S)
    assert await anext(statuses) == "SERVING"
    server.set_health(NOT_SERVING)
    assert await anext(statuses) == "NOT_SERVING"
    server.set_health(SERVING)
    assert await anext(statuses) == "SERVING"
    await statuses.aclose()


async def test_watching_waits_for_a_server_that_starts_late(serve: Serve, connect: Connect) -> None:
    door = ClosedDoor()
    statuses = connect(f"127.0.0.1:{door.port}").watch_health(timeout=PATIENCE_S)
    first = asyncio.ensure_future(anext(statuses))
    await asyncio.to_thread(door.wait_knock)
    door.remove()
    serve(port=door.port)
    assert await first == "SERVING"
    await statuses.aclose()


async def test_watching_ends_at_its_timeout(server: FakeServer, connect: Connect) -> None:
    assert [status async for status in connect(server.target).watch_health(timeout=SHORT_S)] == ["SERVING"]


async def test_wait_ready_returns_when_the_server_is_ready(serve: Serve, connect: Connect) -> None:
    server = serve(serves=NOT_SERVING)
    waiting = asyncio.create_task(connect(server.target).wait_ready(timeout=PATIENCE_S))
    await asyncio.to_thread(server.wait_for, "Watch")
    assert not waiting.done()
    server.set_health(SERVING)
    await waiting


async def test_wait_ready_survives_a_restart_of_the_server_that_it_watches(serve: Serve, connect: Connect) -> None:
    first = serve(serves=NOT_SERVING)
    waiting = asyncio.create_task(connect(first.target).wait_ready(timeout=PATIENCE_S))
    await asyncio.to_thread(first.wait_for, "Watch")
    await asyncio.to_thread(first.kill)
    serve(port=first.port)
    await waiting


async def test_wait_ready_reports_the_last_status_when_it_times_out(serve: Serve, connect: Connect) -> None:
    server = serve(serves=NOT_SERVING)
    with pytest.raises(DeadlineExceeded, match="not SERVING after 0.3 s; last status: NOT_SERVING") as caught:
        await connect(server.target).wait_ready(timeout=SHORT_S)
    assert caught.value.code == "DEADLINE_EXCEEDED"
