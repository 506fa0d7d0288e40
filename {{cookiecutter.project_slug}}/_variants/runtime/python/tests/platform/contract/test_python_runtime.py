from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.adapters.runtime.python.runtime import PythonRuntime
from serving.domain.ports import ModelRuntime
from serving.domain.tensors import Tensors
from tests.platform.contract.model_runtime_contract import LONG_S, SHORT_S, ModelRuntimeContract, question
from tests.platform.support.artifacts import Model, tiny
from tests.platform.support.services import answer_of


class TestPythonRuntime(ModelRuntimeContract):
    def load(self, model: Model, folder: Path) -> ModelRuntime:
        return PythonRuntime(answer_of(model))

    @contextmanager
    def stalled(self, folder: Path) -> Iterator[tuple[ModelRuntime, Tensors]]:
        answer = answer_of(tiny())

        def take_long(inputs: Tensors) -> Tensors:
            time.sleep(4 * SHORT_S)  # nothing can end it, so the call ends with it
            return answer(inputs)

        yield PythonRuntime(take_long), question(1.0)


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
