"""The contract of every runtime; an adapter's test module subclasses it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from serving.domain.errors import DeadlineExceeded, ModelFailed
from serving.domain.ports import ModelRuntime
from serving.domain.tensors import Tensors
from tests.platform.support.artifacts import Model, rich, tiny

LONG_S = 60.0
SHORT_S = 0.05


def question(*base: float) -> Tensors:
    return {"base": np.array(base, np.float32), "value": np.arange(len(base), dtype=np.float32)}


def frozen(inputs: Tensors) -> Tensors:
    """Return the tensors read-only, as in a request."""
    for tensor in inputs.values():
        tensor.flags.writeable = False
    return inputs


class ModelRuntimeContract(ABC):
    """Every test runs with a runtime that has loaded a model."""

    @abstractmethod
    def load(self, model: Model, folder: Path) -> ModelRuntime:
        """Load one of the models of `tests/platform/support/artifacts.py`."""

    @abstractmethod
    def stalled(self, folder: Path) -> AbstractContextManager[tuple[ModelRuntime, Tensors]]:
        """Yield a runtime, and inputs that take it longer than SHORT_S while the block runs."""

    async def test_a_batch_is_answered_row_by_row(self, folder: Path) -> None:
        runtime = self.load(tiny(), folder)
        answer = await runtime.predict(question(1.0, 10.0, 100.0), timeout=LONG_S)
        assert list(answer) == ["total"]
        assert answer["total"].dtype == np.float32
        assert answer["total"].tolist() == [1.0, 11.0, 102.0]
        await runtime.close()

    @pytest.mark.parametrize("rows", [1, 7, 512])
    async def test_any_number_of_rows_is_answered_before_and_after_warming_up(self, folder: Path, rows: int) -> None:
        runtime = self.load(tiny(), folder)
        for _ in range(2):
            answer = await runtime.predict(question(*range(rows)), timeout=LONG_S)
            assert answer["total"].tolist() == [2.0 * row for row in range(rows)]
            await runtime.warm_up(question(1.0, 2.0), 512)
        await runtime.close()

    async def test_every_datatype_is_accepted_and_returned(self, folder: Path) -> None:
        model = rich()
        artifact = model.opened(folder / "for-its-rows")
        runtime = self.load(model, folder)
        answer = await runtime.predict(frozen(artifact.golden_inputs()), timeout=LONG_S)
        assert sorted(answer) == sorted(artifact.golden_outputs())
        for name, expected in artifact.golden_outputs().items():
            assert answer[name].dtype == expected.dtype
            np.testing.assert_array_equal(answer[name], expected)
        await runtime.close()

    async def test_inputs_are_not_written_to(self, folder: Path) -> None:
        runtime = self.load(tiny(), folder)
        inputs = frozen(question(1.0, 2.0))
        for _ in range(2):
            assert (await runtime.predict(inputs, timeout=LONG_S))["total"].tolist() == [1.0, 3.0]
        await runtime.close()

    async def test_concurrent_calls_get_their_own_answers(self, folder: Path) -> None:
        runtime = self.load(tiny(), folder)
        answers = await asyncio.gather(
            *(runtime.predict(question(*[number] * 3), timeout=LONG_S) for number in range(50))
        )
        assert [answer["total"].tolist() for answer in answers] == [[n, n + 1.0, n + 2.0] for n in range(50)]
        await runtime.close()

    async def test_a_model_that_raises_has_failed_and_answers_the_next_call(self, folder: Path) -> None:
        runtime = self.load(tiny(), folder)
        with pytest.raises(ModelFailed):
            await runtime.predict({**question(1.0, 2.0), "value": np.zeros(3, np.float32)}, timeout=LONG_S)
        assert (await runtime.predict(question(1.0), timeout=LONG_S))["total"].tolist() == [1.0]
        await runtime.close()

    async def test_a_model_call_that_takes_too_long_is_abandoned_and_reported(self, folder: Path) -> None:
        with self.stalled(folder) as (runtime, inputs):
            with pytest.raises(DeadlineExceeded, match=r"the model did not answer within 0\.050 s"):
                await runtime.predict(inputs, timeout=SHORT_S)
            await runtime.close()

    async def test_closing_twice_is_fine(self, folder: Path) -> None:
        runtime = self.load(tiny(), folder)
        await runtime.close()
        await runtime.close()
