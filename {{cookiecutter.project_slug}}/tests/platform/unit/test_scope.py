from __future__ import annotations

import asyncio
import logging
import re

import grpc
import pytest

from serving.domain import errors
from serving.online.grpc.scope import CallScope
from serving.online.grpc.servicer import Context, Method
from serving.online.refusals import INTERNAL_TEXT, REQUEST_ID_KEY
from serving.online.telemetry import Metrics, request_id
from tests.platform.support.grpc_context import Aborted, FakeContext

SECRET = "/srv/secret/model.onnx\nat line 7"


def scoped(method: Method, metrics: Metrics | None = None) -> Method:
    """Return the method as it is registered."""
    return CallScope(metrics or Metrics.create()).wrap("ModelInfer", method)


def raising(error: BaseException) -> Method:
    async def method(body: bytes, context: Context) -> bytes:
        raise error

    return method


async def tell_id(body: bytes, context: Context) -> bytes:
    return str(request_id.get()).encode()


async def aborted(error: BaseException, context: FakeContext | None = None, metrics: Metrics | None = None) -> Aborted:
    """Return how a call ends if its method raises."""
    call = scoped(raising(error), metrics)
    with pytest.raises(Aborted) as end:
        await call(b"", (context or FakeContext()).as_context())
    return end.value


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_the_callers_request_id_is_kept_and_sent_back() -> None:
    context = FakeContext([("other", "x"), (REQUEST_ID_KEY, "order-7/step:2")])
    assert await scoped(tell_id)(b"", context.as_context()) == b"order-7/step:2"
    assert context.trailing == {REQUEST_ID_KEY: "order-7/step:2"}


async def test_a_call_without_an_id_gets_a_generated_one_where_it_is_needed() -> None:
    call = scoped(tell_id)
    ids = [await call(b"", FakeContext().as_context()) for _ in range(2)]
    assert len(set(ids)) == 2
    assert all(re.fullmatch(rb"[0-9a-f]{32}", made_up) for made_up in ids)
    context = FakeContext()
    await aborted(errors.InvalidRequest("no."), context)
    assert re.fullmatch("[0-9a-f]{32}", context.trailing[REQUEST_ID_KEY])


async def test_an_answer_has_no_id_that_its_caller_did_not_send() -> None:
    async def nothing(body: bytes, context: Context) -> bytes:
        return b""

    context = FakeContext()
    await scoped(nothing)(b"", context.as_context())
    assert context.trailing == {}


async def test_a_call_is_logged_and_refused_under_the_same_generated_id() -> None:
    logged: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(str(request_id.get()))

    async def refuse(body: bytes, context: Context) -> bytes:
        logging.getLogger("serving").warning("on the way")
        raise errors.InvalidRequest("no.")

    context, listening, scope = FakeContext(), Listening(), logging.getLogger("serving")
    scope.addHandler(listening)
    try:
        with pytest.raises(Aborted):
            await scoped(refuse)(b"", context.as_context())
    finally:
        scope.removeHandler(listening)
    assert set(logged) == {context.trailing[REQUEST_ID_KEY]}


@pytest.mark.parametrize(
    "hostile",
    ["", "x" * 129, "a b", "a\r\nb", "a\nb", "\x1b[31mred", "nul\0", "tab\t", "\x7f", "é", "\N{PILE OF POO}", b"bytes"],
)
async def test_an_id_unsafe_for_a_log_is_replaced(hostile: str | bytes) -> None:
    context = FakeContext([(REQUEST_ID_KEY, hostile)])
    used = await scoped(tell_id)(b"", context.as_context())
    assert re.fullmatch(rb"[0-9a-f]{32}", used)
    await aborted(errors.InvalidRequest("no."), context)
    assert re.fullmatch("[0-9a-f]{32}", context.trailing[REQUEST_ID_KEY])


async def test_the_id_ends_with_its_call() -> None:
    context = FakeContext([(REQUEST_ID_KEY, "mine")])
    await scoped(tell_id)(b"", context.as_context())
    await aborted(errors.InvalidRequest("no."), context)
    assert request_id.get() is None


async def test_calls_at_the_same_time_do_not_mix_up_their_ids() -> None:
    async def slowly(body: bytes, context: Context) -> bytes:
        await asyncio.sleep(0)
        return await tell_id(body, context)

    call = scoped(slowly)
    contexts = [FakeContext([(REQUEST_ID_KEY, f"id-{number}")]) for number in range(50)]
    answers = await asyncio.gather(*(call(b"", context.as_context()) for context in contexts))
    assert answers == [f"id-{number}".encode() for number in range(50)]


async def test_an_error_becomes_its_status_with_the_request_id() -> None:
    context = FakeContext([(REQUEST_ID_KEY, "mine")])
    end = await aborted(errors.InvalidRequest("input 'x' is missing."), context)
    assert (end.code, end.text) == (grpc.StatusCode.INVALID_ARGUMENT, "input 'x' is missing.")
    assert context.trailing == {REQUEST_ID_KEY: "mine"}


async def test_the_key_of_an_unknown_entity_goes_to_the_caller_not_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    end = await aborted(errors.UnknownEntity("no age for 'key-7'."), FakeContext())
    assert (end.code, end.text) == (grpc.StatusCode.NOT_FOUND, "no age for 'key-7'.")
    assert "does not know an entity" in caplog.text
    assert "key-7" not in caplog.text


@pytest.mark.parametrize(
    "error", [RuntimeError(SECRET), KeyError(SECRET), OSError(2, SECRET), errors.ModelFailed(SECRET)]
)
async def test_details_of_an_internal_error_go_to_the_log_not_to_the_caller(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        end = await aborted(error)
    assert (end.code, end.text) == (grpc.StatusCode.INTERNAL, INTERNAL_TEXT)
    assert "secret" in caplog.text
    (message,) = caplog.messages
    assert message.startswith("ModelInfer INTERNAL: " if isinstance(error, errors.ModelFailed) else "ModelInfer failed")


async def test_the_cause_of_a_failed_model_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    failed = errors.ModelFailed("onnxruntime: no")
    failed.__cause__ = ArithmeticError("the root of it")
    with caplog.at_level(logging.INFO):
        await aborted(failed)
    assert "the root of it" in caplog.text


async def test_calls_are_counted_by_method_and_code() -> None:
    metrics = Metrics.create()
    await scoped(tell_id, metrics)(b"", FakeContext().as_context())
    await aborted(errors.NotFound("no."), metrics=metrics)
    await aborted(RuntimeError("no"), metrics=metrics)
    assert value(metrics, "grpc_server_started_total", grpc_method="ModelInfer") == 3
    assert value(metrics, "grpc_server_handling_seconds_count", grpc_method="ModelInfer") == 3
    for code in ("OK", "NOT_FOUND", "INTERNAL"):
        assert value(metrics, "grpc_server_handled_total", grpc_method="ModelInfer", grpc_code=code) == 1


async def test_a_cancelled_call_is_counted_and_stays_cancelled() -> None:
    metrics = Metrics.create()
    call = scoped(raising(asyncio.CancelledError()), metrics)
    with pytest.raises(asyncio.CancelledError):
        await call(b"", FakeContext().as_context())
    assert value(metrics, "grpc_server_handled_total", grpc_method="ModelInfer", grpc_code="CANCELLED") == 1
