"""The server and TensorFlow Serving start in any order, and callers lose nothing while TensorFlow Serving restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from serving.adapters.runtime.tensorflow_serving.runtime import version_of
from serving_client import Client
from tests.platform.support.artifacts import tiny
from tests.platform.support.fake_tensorflow_serving import FakeTensorFlowServing
from tests.platform.support.server import ServerProcess
from tests.platform.support.services import answer_of

LONG_S = 60.0
OUTAGE_S = 2.0  # about what TensorFlow Serving takes to restart with a small model
CALLERS = 8
CALLS = 40
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
