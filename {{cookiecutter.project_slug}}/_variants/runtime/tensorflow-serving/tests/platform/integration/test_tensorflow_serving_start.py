"""The server and TensorFlow Serving start in any order, and callers lose nothing while TensorFlow Serving restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from serving.adapters.runtime.tensorflow_serving.runtime import version_of
from serving_client import AsyncClient, Client
from serving_client.channel import WITH_RETRIES
from tests.platform.support.artifacts import tiny
from tests.platform.support.fake_tensorflow_serving import FakeTensorFlowServing
from tests.platform.support.server import ServerProcess
from tests.platform.support.services import answer_of

LONG_S = 60.0
OUTAGE_S = 2.0  # about what TensorFlow Serving takes to restart with a small model
CALLERS = 8
CALLS = 40
CONNECTIONS = 4
MODEL = replace(tiny(), manifest=replace(tiny().manifest, format="savedmodel"))
ROWS = {"base": [1.0, 1.0], "value": [1.0, 2.0]}


class Served:
    """A server process, and the address of the TensorFlow Serving that it asks: a fake, started and stopped here."""

    def __init__(self, folder: Path) -> None:
        self._version = version_of(MODEL.lay_out(folder).digest)
        self.fake = self._started(0)
        self.fake.stop()
        self.server = ServerProcess(folder, SERVING_RUNTIME_URL=f"grpc://localhost:{self.fake.port}")

    def start(self) -> None:
        self.fake = self._started(self.fake.port)

    def _started(self, port: int) -> FakeTensorFlowServing:
        fake = FakeTensorFlowServing(MODEL.manifest, answer_of(tiny()), port)
        fake.version = fake.answers_as = self._version
        return fake


@pytest.fixture
def served(folder: Path) -> Iterator[Served]:
    both = Served(folder)
    with both.server:
        yield both
    both.fake.stop()


def waiting(served: Served) -> None:
    served.server.wait_for(lambda record: "does not answer" in str(record.get("message")))


def test_a_server_that_starts_first_serves_once_tensorflow_serving_is_there(served: Served) -> None:
    waiting(served)
    served.start()
    served.server.wait_until_listening()
    with Client(served.server.target, model=MODEL.name) as client:
        assert client.predict(ROWS, timeout=LONG_S)["total"].tolist() == [2.0, 3.0]


def test_a_server_that_waits_for_its_model_stops_when_told(served: Served) -> None:
    waiting(served)
    assert served.server.stop() == 0


async def test_a_restart_of_tensorflow_serving_loses_no_call_of_our_client(served: Served) -> None:
    served.start()
    await asyncio.to_thread(served.server.wait_until_listening)
    with Client(served.server.target, model=MODEL.name) as client, ThreadPoolExecutor(CALLERS) as callers:
        first = client.predict(ROWS, timeout=LONG_S)["total"].tolist()
        served.fake.stop()
        calls = [callers.submit(client.predict, ROWS, timeout=LONG_S) for _ in range(CALLS)]
        await asyncio.sleep(OUTAGE_S)
        served.start()
        answers = [call.result()["total"].tolist() for call in calls]
    assert answers == [first] * CALLS


@pytest.mark.parametrize("callers", [40, 400])
async def test_as_many_callers_as_wait_and_more_lose_no_call(served: Served, callers: int) -> None:
    """More than run and wait at once: those beyond come back, and so do those that the queue's end would refuse."""
    served.start()
    await asyncio.to_thread(served.server.wait_until_listening)
    async with AsyncExitStack() as opened:
        clients = [await opened.enter_async_context(connected(served.server.target)) for _ in range(CONNECTIONS)]
        first = (await clients[0].predict(ROWS, timeout=LONG_S))["total"].tolist()
        restarted = asyncio.Event()

        async def call(client: AsyncClient) -> list[list[float]]:
            answers = []
            while not answers or not restarted.is_set():
                answers.append((await client.predict(ROWS, timeout=LONG_S))["total"].tolist())
            answers.append((await client.predict(ROWS, timeout=LONG_S))["total"].tolist())
            return answers

        calls = [asyncio.create_task(call(clients[number % CONNECTIONS])) for number in range(callers)]
        await asyncio.to_thread(served.fake.stop)
        await asyncio.to_thread(waiting, served)
        await asyncio.sleep(OUTAGE_S)
        served.start()
        restarted.set()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    lost = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert not lost, f"{len(lost)} lost, such as {lost[0]!r}"
    assert all(answer == first for outcome in outcomes if isinstance(outcome, list) for answer in outcome)


@asynccontextmanager
async def connected(target: str) -> AsyncIterator[AsyncClient]:
    """Open a client with a separate connection; by default all clients of a process share one."""
    options = (*WITH_RETRIES, ("grpc.use_local_subchannel_pool", 1))
    async with (
        grpc.aio.insecure_channel(f"dns:///{target}", options) as channel,
        AsyncClient(channel=channel, model=MODEL.name) as client,
    ):
        yield client
