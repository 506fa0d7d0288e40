from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.adapters.runtime.python.runtime import PythonRuntime
from serving.domain.ports import ModelRuntime
from serving.domain.tensors import Tensors
from tests.platform.contract.model_runtime_contract import LONG_S, ModelRuntimeContract, question
from tests.platform.support.artifacts import Model, tiny
from tests.platform.support.services import answer_of


class TestPythonRuntime(ModelRuntimeContract):
    def load(self, model: Model, folder: Path) -> ModelRuntime:
        return PythonRuntime(answer_of(model))

    @contextmanager
    def stalled(self, folder: Path) -> Iterator[tuple[ModelRuntime, Tensors]]:
        go_on, answer = threading.Event(), answer_of(tiny())

        def wait_and_answer(inputs: Tensors) -> Tensors:
            assert go_on.wait(LONG_S)
            return answer(inputs)

        yield PythonRuntime(wait_and_answer), question(1.0)
        go_on.set()


async def test_no_two_calls_run_at_once_and_none_on_the_event_loop() -> None:
    running, most, seen = 0, 0, set()

    def count(inputs: Tensors) -> Tensors:
        nonlocal running, most
        running += 1
        most = max(most, running)
        seen.add(threading.current_thread())
        running -= 1
        return {"total": inputs["base"]}

    import asyncio

    runtime = PythonRuntime(count)
    await runtime.warm_up(question(1.0), 4)
    seen.clear()
    await asyncio.gather(*(runtime.predict(question(*range(rows)), timeout=LONG_S) for rows in range(1, 20)))
    await runtime.close()
    assert most == 1
    assert len(seen) == 1
    assert threading.current_thread() not in seen
