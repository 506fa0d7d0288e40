"""TensorFlow Serving is away, slow, restarted, or answers for another version: never a wrong answer, never a hang."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.adapters.runtime.tensorflow_serving.development import DevelopmentServer
from serving.adapters.runtime.tensorflow_serving.runtime import TensorFlowServing, version_of
from serving.adapters.runtime.tensorflow_serving.saved_model import pack
from serving.domain.deadline import outage_waited
from serving.domain.errors import DeadlineExceeded, ModelFailed, NotReady
from serving.domain.tensors import Tensors
from tests.platform.support.artifacts import tiny
from tests.platform.support.fake_tensorflow_serving import VERSION, FakeTensorFlowServing
from tests.platform.support.services import answer_of

LONG_S = 60.0
SHORT_S = 0.3
RECOVERY_S = 3.0


def question() -> Tensors:
    return {"base": np.ones(2, np.float32), "value": np.ones(2, np.float32)}


@pytest.fixture
def server() -> Iterator[FakeTensorFlowServing]:
    running = FakeTensorFlowServing(tiny().manifest, answer_of(tiny()))
    yield running
    running.stop()


async def test_while_it_starts_the_runtime_waits_for_it(server: FakeTensorFlowServing) -> None:
    runtime, port = server.runtime(), server.port
    server.stop()
    asked = asyncio.create_task(runtime.predict(question(), timeout=LONG_S))
    await asyncio.sleep(0)  # the call is under way
    assert not asked.done()
    started = FakeTensorFlowServing(tiny().manifest, answer_of(tiny()), port)
    assert (await asked)["total"].tolist() == [2, 2]
    await runtime.close()
    started.stop()


async def test_a_version_that_is_loaded_later_is_waited_for(server: FakeTensorFlowServing) -> None:
    server.version = VERSION + 1
    runtime = server.runtime()
    with pytest.raises(
        NotReady, match=rf"does not have tiny {VERSION}; the model can't be asked now \('Servable.*, for"
    ):
        await runtime.predict(question(), timeout=SHORT_S)
    server.version = VERSION
    assert (await runtime.predict(question(), timeout=LONG_S))["total"].tolist() == [2, 2]
    await runtime.close()


async def test_a_short_outage_is_waited_for_and_is_no_work_of_the_model(
    server: FakeTensorFlowServing, caplog: pytest.LogCaptureFixture
) -> None:
    runtime, port = server.runtime(patience=LONG_S), server.port
    await runtime.predict(question(), timeout=LONG_S)
    server.stop()
    assert outage_waited() == 0

    async def ask() -> tuple[Tensors, float]:
        answer = await runtime.predict(question(), timeout=LONG_S)
        return answer, outage_waited()

    asked = asyncio.create_task(ask())
    async with asyncio.timeout(LONG_S):
        while "waiting" not in caplog.text:
            await asyncio.sleep(0.01)
    back = FakeTensorFlowServing(tiny().manifest, answer_of(tiny()), port)
    async with asyncio.timeout(RECOVERY_S):
        answer, waited = await asked
    assert (answer["total"].tolist(), waited > 0) == ([2, 2], True)
    await runtime.close()
    back.stop()


async def test_a_long_outage_is_refused_at_once_and_over_when_it_is_back(server: FakeTensorFlowServing) -> None:
    runtime, port = server.runtime(), server.port
    await runtime.predict(question(), timeout=LONG_S)
    server.stop()
    with pytest.raises(NotReady, match=r"TensorFlow Serving at localhost:\d+ does not answer"):
        await runtime.predict(question(), timeout=LONG_S)
    asked = asyncio.get_running_loop().time()
    with pytest.raises(NotReady):
        await runtime.predict(question(), timeout=LONG_S)
    assert asyncio.get_running_loop().time() - asked < SHORT_S
    back = FakeTensorFlowServing(tiny().manifest, answer_of(tiny()), port)
    async with asyncio.timeout(RECOVERY_S):
        while True:
            try:
                answer = await runtime.predict(question(), timeout=LONG_S)
                break
            except NotReady:
                await asyncio.sleep(0.05)
    assert answer["total"].tolist() == [2, 2]
    await runtime.close()
    back.stop()


async def test_an_unloaded_version_is_refused_and_no_other_asked(server: FakeTensorFlowServing) -> None:
    runtime = server.runtime()
    await runtime.predict(question(), timeout=LONG_S)
    server.version = VERSION + 1
    with pytest.raises(NotReady, match=rf"does not have tiny {VERSION}"):
        await runtime.predict(question(), timeout=LONG_S)
    await runtime.close()


async def test_an_answer_of_another_version_is_not_used(server: FakeTensorFlowServing) -> None:
    runtime = server.runtime()
    await runtime.predict(question(), timeout=LONG_S)
    server.answers_as = VERSION + 1
    with pytest.raises(NotReady, match=rf"answered as 'tiny' {VERSION + 1}, must be tiny {VERSION}"):
        await runtime.predict(question(), timeout=LONG_S)
    await runtime.close()


async def test_a_slow_answer_is_abandoned_at_the_deadline(server: FakeTensorFlowServing) -> None:
    runtime = server.runtime()
    server.gate.clear()
    with pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.300 s"):
        await runtime.predict(question(), timeout=SHORT_S)
    server.gate.set()
    assert (await runtime.predict(question(), timeout=LONG_S))["total"].tolist() == [2, 2]
    await runtime.close()


async def test_a_proxy_in_the_environment_is_not_used(
    server: FakeTensorFlowServing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://localhost:1")
    runtime = server.runtime()
    assert (await runtime.predict(question(), timeout=LONG_S))["total"].tolist() == [2, 2]
    await runtime.close()


async def test_an_answer_without_a_declared_output_is_a_failure_of_the_model() -> None:
    server = FakeTensorFlowServing(tiny().manifest, lambda _: {})
    runtime = server.runtime()
    with pytest.raises(ModelFailed, match="gave no output total"):
        await runtime.predict(question(), timeout=LONG_S)
    await runtime.close()
    server.stop()


async def test_a_development_server_that_ends_is_reported_with_its_last_words(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes(b"no graph")
    beside = DevelopmentServer("tiny", VERSION, pack(folder))
    runtime = TensorFlowServing(beside.address, "tiny", VERSION, [], [], beside)
    with pytest.raises(ModelFailed, match="the development server has ended: .*"):
        await runtime.predict({}, timeout=LONG_S)
    await runtime.close()
    assert not list(Path(beside.folder).glob("*"))


def test_a_version_is_a_number_of_63_bits_from_the_digest() -> None:
    assert version_of("sha256=" + "f" * 64) == 2**63 - 1
    assert version_of("sha256=" + "0" * 63 + "1") == 0
    assert version_of("sha256=0000000000000004" + "0" * 48) == 2
