from __future__ import annotations

import asyncio

import pytest

from serving import TEMPLATE_VERSION
from serving.domain.errors import DeadlineExceeded, InvalidRequest, NotFound, NotReady, Overloaded
from serving.domain.tensors import Tensors
from serving.online.admission import Admission, Limits
from serving.online.grpc.proto import open_inference_pb2 as pb
from serving.online.grpc.servicer import InferenceServicer
from serving.online.inference import NoModel, Service
from serving.online.telemetry import RequestId, request_id
from tests.platform.support.artifacts import tiny
from tests.platform.support.fakes import FakeRuntime
from tests.platform.support.grpc_context import FakeContext
from tests.platform.support.services import AMPLE, answer_of, fake_service
from tests.platform.support.wire import request

LONG = 60.0
REQUEST = request("tiny", {"base": [1.0], "value": [2.0]})
NOTHING = NoModel("no model is served: the reason.")


def servicer(service: Service, *, max_running: int = 1, call_timeout: float = LONG) -> InferenceServicer:
    return InferenceServicer(service, Admission(Limits(max_running, 0, AMPLE), lambda _: None), call_timeout)


def context(remaining: float | None = None):  # type: ignore[no-untyped-def]
    return FakeContext(remaining=remaining).as_context()


def model_body(name: str, version: str = "") -> bytes:
    return pb.ModelReadyRequest(name=name, version=version).SerializeToString()


async def test_a_server_is_live_with_and_without_a_model() -> None:
    for service in (fake_service(tiny()), NOTHING):
        assert pb.ServerLiveResponse.FromString(await servicer(service).server_live(b"", context())).live


async def test_only_a_server_with_a_model_is_ready() -> None:
    for service, ready in ((fake_service(tiny()), True), (NOTHING, False)):
        asked = servicer(service)
        assert pb.ServerReadyResponse.FromString(await asked.server_ready(b"", context())).ready is ready
        answer = await asked.model_ready(model_body("tiny", "1"), context())
        assert pb.ModelReadyResponse.FromString(answer).ready is ready


async def test_the_server_describes_itself_with_and_without_a_model() -> None:
    for service in (fake_service(tiny()), NOTHING):
        answer = pb.ServerMetadataResponse.FromString(await servicer(service).server_metadata(b"", context()))
        assert (answer.name, answer.version) == ("ml-serving-template", TEMPLATE_VERSION)


async def test_metadata_describe_the_model() -> None:
    body = pb.ModelMetadataRequest(name="tiny").SerializeToString()
    answer = await servicer(fake_service(tiny())).model_metadata(body, context())
    assert [spec.name for spec in pb.ModelMetadataResponse.FromString(answer).inputs] == ["base", "value"]


@pytest.mark.parametrize("method", ["model_ready", "model_metadata"])
@pytest.mark.parametrize(
    ("name", "version", "error"),
    [
        ("other", "", NotFound),
        ("tiny", "2", NotFound),
        ("../tiny", "", InvalidRequest),
        ("", "", InvalidRequest),
        ("tiny", "../2", InvalidRequest),
    ],
)
async def test_a_request_for_another_model_is_refused(
    method: str, name: str, version: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await getattr(servicer(fake_service(tiny())), method)(model_body(name, version), context())


@pytest.mark.parametrize(
    "method", ["server_live", "server_ready", "server_metadata", "model_ready", "model_metadata", "model_infer"]
)
async def test_bytes_that_are_not_a_message_are_refused_by_every_method(method: str) -> None:
    with pytest.raises(InvalidRequest, match="the request is not a inference"):
        await getattr(servicer(fake_service(tiny())), method)(b"\xff" * 9, context())


async def test_without_a_model_predictions_and_metadata_say_why() -> None:
    asked = servicer(NOTHING)
    with pytest.raises(NotReady, match="the reason"):
        await asked.model_infer(REQUEST.SerializeToString(), context())
    with pytest.raises(NotReady, match="the reason"):
        await asked.model_metadata(model_body("tiny"), context())


@pytest.mark.parametrize(
    ("sent", "beside", "answered"), [("my-id", "other", "my-id"), ("", "other", "other"), ("", "", "")]
)
async def test_an_answer_has_the_id_of_the_request_or_the_one_sent_beside_it(
    sent: str, beside: str, answered: str
) -> None:
    body = request("tiny", {"base": [1.0], "value": [2.0]}, id=sent).SerializeToString()
    token = request_id.set(RequestId(beside))
    answer = await servicer(fake_service(tiny())).model_infer(body, context())
    request_id.reset(token)
    assert pb.ModelInferResponse.FromString(answer).id == answered


@pytest.mark.parametrize(("given", "limit", "expected"), [(None, 5.0, 5.0), (2.0, 5.0, 2.0), (9.0, 5.0, 5.0)])
async def test_a_call_has_the_deadline_of_its_caller_capped_by_the_setting(
    given: float | None, limit: float, expected: float
) -> None:
    seen: list[float] = []

    class Watched(FakeRuntime):
        async def predict(self, inputs: Tensors, *, timeout: float) -> Tensors:
            seen.append(timeout)
            return await super().predict(inputs, timeout=timeout)

    service = fake_service(tiny(), runtime=Watched(answer_of(tiny())))
    await servicer(service, call_timeout=limit).model_infer(REQUEST.SerializeToString(), context(given))
    assert expected - 1 < seen[0] <= expected


async def test_a_hanging_model_call_ends_at_the_deadline_and_releases_its_slot() -> None:
    runtime = FakeRuntime(answer_of(tiny()))
    runtime.gate = asyncio.Event()
    asked = servicer(fake_service(tiny(), runtime=runtime))
    with pytest.raises(DeadlineExceeded):
        await asked.model_infer(REQUEST.SerializeToString(), context(0.01))
    runtime.gate.set()
    await asked.model_infer(REQUEST.SerializeToString(), context())


async def test_a_call_beyond_the_limits_is_refused_before_its_body_is_read() -> None:
    runtime = FakeRuntime(answer_of(tiny()))
    runtime.gate = asyncio.Event()
    asked = servicer(fake_service(tiny(), runtime=runtime))
    running = asyncio.create_task(asked.model_infer(REQUEST.SerializeToString(), context()))
    await asyncio.wait({running}, timeout=0)  # run it until it waits for the model
    with pytest.raises(Overloaded):
        await asked.model_infer(b"\xff no message at all", context())
    assert pb.ServerReadyResponse.FromString(await asked.server_ready(b"", context())).ready
    runtime.gate.set()
    await running
