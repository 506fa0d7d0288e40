from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from serving.domain.deadline import Deadline
from serving.domain.errors import DeadlineExceeded, InvalidRequest, ModelFailed, NotFound, NotReady, UnknownEntity
from serving.domain.tensors import Tensors
from serving.online.inference import NoModel
from serving.prediction.fallback import Fallback
from tests.platform.support.artifacts import rich, tiny
from tests.platform.support.fakes import FakeRuntime, FakeStore
from tests.platform.support.services import Observed, fake_service

LONG = 60.0
STATIC = tiny(static=True)


def request(*keys: bytes) -> Tensors:
    return {"key": np.array(keys, object), "value": np.arange(len(keys), dtype=np.float32)}


async def test_a_request_passes_check_store_model_and_check() -> None:
    observed = Observed()
    service = fake_service(STATIC, store=FakeStore({b"a": {"base": 1.0}}), observed=observed)
    answer = await service.infer(request(b"a", b"nobody"), [], Deadline(LONG))
    assert answer.outputs["total"].tolist() == [1.0, 101.0]
    assert answer.defaulted == {"base": [1]}
    assert answer.model.reference == service.model.reference
    assert (len(observed.reads), len(observed.predictions), observed.defaults) == (1, 1, [("base", 1)])


async def test_calls_that_wait_share_a_read_and_a_model_call_and_the_unknown_entity_fails_alone() -> None:
    store, observed = FakeStore({key: {"base": float(ord(key))} for key in (b"a", b"b", b"c")}), Observed()
    runtime = FakeRuntime(lambda inputs: {"total": inputs["base"] + inputs["value"]})
    runtime.concurrency, store.gate = 1, asyncio.Event()
    service = fake_service(
        STATIC, store=store, runtime=runtime, observed=observed, unknown=Fallback.REFUSE, batching=True
    )
    calls = [
        asyncio.ensure_future(service.infer(request(*keys), [], Deadline(LONG)))
        for keys in ([b"a"], [b"b", b"c"], [b"a"], [b"nobody"])
    ]
    await asyncio.sleep(0)
    store.gate.set()
    first, second, third = [(await call).outputs["total"].tolist() for call in calls[:3]]
    assert (first, second, third) == ([97.0], [98.0, 100.0], [97.0])
    with pytest.raises(UnknownEntity, match="'nobody'"):
        await calls[3]
    assert observed.batches == [1, 3, 1, 1, 1]


async def test_the_values_of_each_model_call_are_observed_and_those_of_a_failed_call_are_not() -> None:
    store = FakeStore({key: {"base": float(ord(key))} for key in (b"a", b"b")})
    seen: list[tuple[float, ...]] = []
    runtime = FakeRuntime(lambda inputs: {"total": inputs["base"] + inputs["value"]})
    runtime.concurrency, store.gate = 1, asyncio.Event()
    service = replace(
        fake_service(STATIC, store=store, runtime=runtime, unknown=Fallback.REFUSE, batching=True),
        observe_values=lambda rows, inputs, outputs: seen.append((rows, *inputs["base"], *outputs["total"])),
    )
    calls = [asyncio.ensure_future(service.infer(request(key), [], Deadline(LONG))) for key in (b"a", b"b", b"c")]
    await asyncio.sleep(0)
    store.gate.set()
    await asyncio.wait(calls)
    assert seen == [(1, 97.0, 97.0), (1, 98.0, 98.0)]


async def test_the_rows_of_a_batch_are_observed_together() -> None:
    store = FakeStore({b"a": {"base": 1.0}})
    seen: list[tuple[int, int, int]] = []
    runtime = FakeRuntime(lambda inputs: {"total": inputs["base"] + inputs["value"]})
    runtime.concurrency, store.gate = 1, asyncio.Event()
    service = replace(
        fake_service(STATIC, store=store, runtime=runtime, batching=True),
        observe_values=lambda rows, inputs, outputs: seen.append((rows, len(inputs["base"]), len(outputs["total"]))),
    )
    calls = [asyncio.ensure_future(service.infer(request(b"a", b"a"), ["total"], Deadline(LONG))) for _ in range(3)]
    await asyncio.sleep(0)
    store.gate.set()
    await asyncio.gather(*calls)
    assert seen == [(2, 2, 2), (4, 4, 4)]


async def test_only_requested_outputs_are_answered_in_their_order() -> None:
    model = rich()
    inputs = {f.name: np.zeros((1, *f.shape), f.datatype.dtype) for f in model.manifest.features.model_inputs}
    for name in ("bytes", "text", "words"):
        inputs[name].fill(b"")
    answer = await fake_service(model).infer(inputs, ["matrix_out", "bool_out"], Deadline(LONG))
    assert list(answer.outputs) == ["matrix_out", "bool_out"]


@pytest.mark.parametrize("outputs", [[], ["nonsense"]])
async def test_an_invalid_request_reaches_neither_store_nor_model(outputs: list[str]) -> None:
    store, runtime = FakeStore(), FakeRuntime(lambda inputs: inputs)
    service = fake_service(STATIC, store=store, runtime=runtime)
    inputs = request(b"a") if outputs else {"key": np.array([b"a"], object)}
    with pytest.raises(InvalidRequest):
        await service.infer(inputs, outputs, Deadline(LONG))
    assert (store.reads, runtime.calls) == (0, 0)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({}, "output total is missing"),
        ({"total": np.zeros(2, np.float32)}, r"output total is float32\[2\] for 1 rows"),
        ({"total": np.zeros(1, np.float64)}, r"output total is float64\[1\]"),
        ({"total": np.array([np.nan], np.float32)}, "output total holds NaN"),
    ],
)
async def test_an_answer_that_breaks_the_signature_is_a_model_error(answer: Tensors, fault: str) -> None:
    service = fake_service(STATIC, runtime=FakeRuntime(lambda _: answer))
    with pytest.raises(ModelFailed, match=fault):
        await service.infer(request(b"a"), [], Deadline(LONG))


async def test_the_model_gets_the_time_left_by_the_store() -> None:
    given: list[float] = []

    class Watched(FakeRuntime):
        async def predict(self, inputs: Tensors, *, timeout: float) -> Tensors:
            given.append(timeout)
            return await super().predict(inputs, timeout=timeout)

    runtime = Watched(lambda inputs: {"total": inputs["value"]})
    await fake_service(STATIC, runtime=runtime).infer(request(b"a"), [], Deadline(LONG))
    assert 0 < given[0] < LONG


async def test_the_model_is_not_called_if_the_store_used_up_the_time() -> None:
    class Late(FakeStore):
        async def read(self, entities, features, *, timeout):  # type: ignore[no-untyped-def]
            await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=timeout * 2)
            return await super().read(entities, features, timeout=timeout)

    runtime = FakeRuntime(lambda inputs: {"total": inputs["value"]})
    service = fake_service(STATIC, store=Late({b"a": {"base": 1.0}}), runtime=runtime)
    with pytest.raises(DeadlineExceeded, match=r"the deadline of 0\.010 s passed while the features were read"):
        await service.infer(request(b"a"), [], Deadline(0.01))
    assert runtime.calls == 0


async def test_a_hanging_model_call_is_abandoned_at_the_deadline() -> None:
    runtime = FakeRuntime(lambda inputs: inputs)
    runtime.gate = asyncio.Event()
    with pytest.raises(DeadlineExceeded):
        await fake_service(STATIC, runtime=runtime).infer(request(b"a"), [], Deadline(0.01))


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        ("other", "", "model 'other' is not served here; this server has tiny."),
        ("tiny", "2", "model version '2' is not served here; this server has version 1."),
    ],
)
def test_another_model_or_version_is_not_found(name: str, version: str, words: str) -> None:
    with pytest.raises(NotFound) as refusal:
        fake_service(STATIC).model.check_named(name, version)
    assert str(refusal.value) == words


@pytest.mark.parametrize("version", ["", "1"])
def test_no_version_means_the_one_that_is_served(version: str) -> None:
    fake_service(STATIC).model.check_named("tiny", version)


async def test_without_a_model_every_call_is_refused_with_the_reason() -> None:
    nothing = NoModel("no model is served: the reason.")
    with pytest.raises(NotReady, match="the reason"):
        await nothing.infer(request(b"a"), [], Deadline(LONG))
    with pytest.raises(NotReady, match="the reason"):
        _ = nothing.model


async def test_an_answer_says_how_long_the_model_took() -> None:
    observed = Observed()
    answer = await fake_service(STATIC, observed=observed).infer(request(b"a"), [], Deadline(LONG))
    assert 0 < answer.model_seconds <= observed.predictions[0]


async def test_a_deadline_that_passes_during_the_last_read_is_reported() -> None:
    now = [0.0]

    class Slow(FakeStore):
        async def read(self, entities, features, *, timeout):  # type: ignore[no-untyped-def]
            now[0] = LONG
            return await super().read(entities, features, timeout=timeout)

    with pytest.raises(DeadlineExceeded) as refusal:
        await fake_service(STATIC, store=Slow()).infer(request(b"a"), [], Deadline(LONG, clock=lambda: now[0]))
    assert str(refusal.value) == "the deadline of 60.000 s passed before the model was called."


def test_without_a_model_none_runs() -> None:
    assert NoModel("the reason.").longest() == 0
