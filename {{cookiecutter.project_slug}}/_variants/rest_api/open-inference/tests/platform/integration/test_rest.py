"""The REST API is the same service as gRPC's: answers, ids, deadlines, metrics and the drain."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import numpy as np
import pytest
import tritonclient.http.aio as triton
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.rest import as_binary
from benchmarks.rest import as_json as benchmark_json
from serving.domain.errors import FeaturesNotFilled, FeatureStoreUnavailable, ModelFailed
from serving.domain.tensors import Datatype, Tensor
from serving.online.grpc.proto import open_inference_pb2 as pb
from serving.online.inference import NoModel
from serving.online.telemetry import Metrics
from tests.platform.support.artifacts import rich, tiny
from tests.platform.support.fakes import FakeRuntime
from tests.platform.support.requests import MODEL, good
from tests.platform.support.rest import (
    HEADER_LENGTH,
    Json,
    Rest,
    as_rest,
    good_json,
    outputs_of,
    serving_rest,
    tensor_of,
)
from tests.platform.support.server import PATIENCE_S
from tests.platform.support.services import answer_of, fake_service
from tests.platform.support.wire import raw

TINY = "/v2/models/tiny/infer"
ALL = rich()


def tiny_request(base: float = 1.0, value: float = 2.0) -> Json:
    return {
        "inputs": [
            {"name": "base", "datatype": "FP32", "shape": [1], "data": [base]},
            {"name": "value", "datatype": "FP32", "shape": [1], "data": [value]},
        ]
    }


def rows_of(datatype: Datatype, shape: tuple[int, ...]) -> st.SearchStrategy[Tensor]:
    """Return rows of any valid values; text without lone surrogates, which no client can send."""
    if datatype.holds_bytes:
        return hnp.arrays(object, shape, elements=st.text(st.characters(codec="utf-8"), max_size=40).map(str.encode))
    options = {"allow_nan": False, "allow_infinity": False} if datatype.is_float else None
    return hnp.arrays(datatype.dtype, shape, elements=options)


@st.composite
def requests(draw: Any) -> pb.ModelInferRequest:
    """Make a request with each datatype."""
    rows = draw(st.integers(1, 3))
    request = pb.ModelInferRequest(model_name=ALL.name)
    for feature in ALL.manifest.features.model_inputs:
        values = draw(rows_of(feature.datatype, (rows, *feature.shape)))
        request.inputs.add(name=feature.name, datatype=feature.datatype.wire, shape=values.shape)
        request.raw_input_contents.append(raw(values))
    return request


def as_json(request: pb.ModelInferRequest) -> Json:
    """Write a request with raw contents as JSON."""
    inputs = []
    for tensor, content in zip(request.inputs, request.raw_input_contents, strict=True):
        datatype = Datatype(tensor.datatype)
        sent = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        inputs.append(sent | {"data": elements(datatype, content)})
    return {"inputs": inputs}


def elements(datatype: Datatype, content: bytes) -> list[Any]:
    if not datatype.holds_bytes:
        values: list[Any] = np.frombuffer(content, datatype.dtype).tolist()
        return values
    found = []
    while content:
        size = int.from_bytes(content[:4], "little")
        found.append(content[4 : 4 + size].decode())
        content = content[4 + size :]
    return found


async def test_every_datatype_comes_back_by_json_and_binary_as_by_grpc_to_the_last_bit() -> None:
    async with serving_rest(fake_service(ALL)) as rest:

        async def compare(request: pb.ModelInferRequest) -> None:
            answer = await rest.wire.infer(request)
            by_grpc = dict(zip((o.name for o in answer.outputs), answer.raw_output_contents, strict=True))
            path, body, headers = as_rest(request)
            assert outputs_of(await rest.infer(body, path, headers=headers)) == by_grpc
            assert outputs_of(await rest.infer(as_json(request), path)) == by_grpc
            path, body, headers = as_rest(request, parameters={"binary_data_output": True})
            binary = await rest.infer(body, path, headers=headers)
            assert binary.headers["content-type"] == "application/octet-stream"
            assert outputs_of(binary) == by_grpc

        loop = asyncio.get_running_loop()

        @settings(max_examples=30)
        @given(requests())
        def examples(request: pb.ModelInferRequest) -> None:
            asyncio.run_coroutine_threadsafe(compare(request), loop).result(PATIENCE_S)

        await asyncio.to_thread(examples)


async def test_integers_beyond_2_to_the_53_stay_exact() -> None:
    request = good_json()
    tensor_of(request, "int64")["data"] = [(1 << 53) + 1, -(1 << 63)]
    tensor_of(request, "uint64")["data"] = [(1 << 64) - 1, (1 << 53) + 1]
    async with serving_rest(fake_service(MODEL)) as rest:
        answer = (await rest.infer(request)).json
    found = {output["name"]: output["data"] for output in answer["outputs"]}
    assert found["int64_out"] == [(1 << 53) + 1, -(1 << 63)]
    assert found["uint64_out"] == [(1 << 64) - 1, (1 << 53) + 1]


async def test_nested_lists_whole_floats_and_unknown_fields_are_understood() -> None:
    request = good_json()
    tensor_of(request, "matrix")["data"] = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]
    tensor_of(request, "int32")["data"] = [1.0, -7e2]
    request |= {"unknown": 1, "outputs": None, "id": None, "parameters": None}
    async with serving_rest(fake_service(MODEL)) as rest:
        answer = (await rest.infer(request)).json
    found = {output["name"]: output["data"] for output in answer["outputs"]}
    assert found["matrix_out"] == list(range(1, 13))
    assert found["int32_out"] == [1, -700]


async def test_an_answer_has_the_version_the_digest_and_only_the_outputs_asked_for() -> None:
    request = good_json() | {"id": "mine", "outputs": [{"name": "fp32_out"}, {"name": "text_out"}]}
    async with serving_rest(fake_service(MODEL)) as rest:
        answer = (await rest.infer(request, "/v2/models/rich/versions/1/infer")).json
    model = fake_service(MODEL).model
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("rich", "1", "mine")
    assert answer["parameters"] == {"artifact_digest": model.reference.digest}
    assert [output["name"] for output in answer["outputs"]] == ["fp32_out", "text_out"]
    assert answer["outputs"][1]["parameters"] == {"content_type": "str"}


async def test_each_output_is_binary_or_json_as_it_is_asked_for() -> None:
    outputs = [{"name": "fp32_out", "parameters": {"binary_data": False}}, {"name": "fp64_out"}]
    request = good_json() | {"outputs": outputs, "parameters": {"binary_data_output": True}}
    async with serving_rest(fake_service(MODEL)) as rest:
        answer = await rest.infer(request)
    head = json.loads(answer.body[: int(answer.headers[HEADER_LENGTH])])
    assert head["outputs"][0]["data"] == [1.0, 1.0]
    assert head["outputs"][1]["parameters"] == {"binary_data_size": 16}
    assert answer.body.endswith(np.ones(2).tobytes())


async def test_bytes_that_are_no_text_are_answered_as_binary_data_only() -> None:
    path, body, headers = as_rest(good(b"\xff\x00"), parameters={"binary_data_output": True})
    async with serving_rest(fake_service(MODEL)) as rest:
        assert (await rest.infer(body, path, headers=headers)).status == 200
        path, body, headers = as_rest(good(b"\xff\x00"))
        refused = await rest.infer(body, path, headers=headers)
    assert refused.status == 400
    assert "binary_data" in refused.json["detail"]


async def test_a_nan_travels_as_null_where_the_model_takes_it() -> None:
    model = tiny()
    service = fake_service(model)
    signature = service.model.signature
    object.__setattr__(signature.inputs[0], "allow_nan", True)
    object.__setattr__(signature.outputs[0], "allow_nan", True)
    request = tiny_request()
    request["inputs"][0]["data"] = [None]
    async with serving_rest(service) as rest:
        answer = await rest.infer(request, TINY)
    assert answer.json["outputs"][0]["data"] == [None]


async def test_tritons_client_reads_the_metadata_and_predicts_both_ways() -> None:
    async with serving_rest(fake_service(MODEL)) as rest, triton.InferenceServerClient(rest.address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("rich", "1")
        metadata = await client.get_model_metadata("rich")
        assert "binary_tensor_data" in (await client.get_server_metadata())["extensions"]
        by_grpc = await rest.wire.metadata("rich")
        for side, theirs in (("inputs", by_grpc.inputs), ("outputs", by_grpc.outputs)):
            assert [(t["name"], t["datatype"], t["shape"]) for t in metadata[side]] == [
                (t.name, t.datatype, list(t.shape)) for t in theirs
            ]
        assert metadata["properties"] == dict(by_grpc.properties)
        for binary in (True, False):
            inputs = []
            for tensor in metadata["inputs"]:
                shape = [2, *tensor["shape"][1:]]
                values = np.full(shape, b"text", object) if tensor["datatype"] == "BYTES" else None
                if values is None:
                    values = np.ones(shape, Datatype(tensor["datatype"]).dtype)
                inputs.append(triton.InferInput(tensor["name"], shape, tensor["datatype"]))
                inputs[-1].set_data_from_numpy(values, binary_data=binary)
            outputs = [triton.InferRequestedOutput(t["name"], binary_data=binary) for t in metadata["outputs"]]
            answer = await client.infer("rich", inputs, outputs=outputs)
            np.testing.assert_array_equal(answer.as_numpy("fp64_out"), np.ones(2))
            np.testing.assert_array_equal(answer.as_numpy("matrix_out"), np.ones((2, 2, 3), np.float32))
        with pytest.raises(triton.InferenceServerException, match="model 'nobody' is not served here"):
            await client.get_model_metadata("nobody")


async def test_an_id_of_the_caller_comes_back_and_a_refusal_has_one() -> None:
    async with serving_rest(fake_service(MODEL)) as rest:
        answer = await rest.infer(good_json(), headers={"X-Request-ID": "mine"})
        assert (answer.headers["x-request-id"], answer.json["id"]) == ("mine", "mine")
        assert "x-request-id" not in (await rest.infer(good_json())).headers
        refused = await rest.infer({}, headers={"X-Request-ID": "b\tad"})
        assert refused.headers["x-request-id"] == refused.json["request_id"] != "b\tad"


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (FeatureStoreUnavailable("the store is gone."), 503, None),
        (FeaturesNotFilled(), 503, None),
        (ModelFailed("a secret of the model."), 500, None),
        (ValueError("a secret of the code"), 500, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_what_the_service_raises_has_its_status(error: Exception, status: int, retry: str | None) -> None:
    runtime = FakeRuntime(answer_of(MODEL))
    runtime.fault = error
    async with serving_rest(fake_service(MODEL, runtime=runtime)) as rest:
        answer = await rest.infer(good_json())
        assert (await rest.get("/v2/health/ready")).status == 200
    assert answer.status == status
    assert answer.headers.get("retry-after") == retry
    assert "secret" not in answer.json["detail"]
    assert "Traceback" not in answer.json["detail"]


async def test_without_a_model_all_but_liveness_says_so() -> None:
    async with serving_rest(NoModel("no model is served: none is chosen.")) as rest:
        assert (await rest.get("/v2/health/live")).status == 200
        ready = await rest.get("/v2/health/ready")
        assert (ready.status, ready.json) == (503, {"ready": False})
        assert (await rest.get("/v2/models/rich/ready")).status == 503
        for answer in (await rest.get("/v2/models/rich"), await rest.infer(good_json())):
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.json["detail"] == "no model is served: none is chosen."


def gated() -> FakeRuntime:
    """Return a runtime whose calls wait for its gate."""
    runtime = FakeRuntime(answer_of(tiny()))
    runtime.gate = asyncio.Event()
    return runtime


async def running(rest: Rest, metrics: Metrics, calls: int = 1) -> None:
    """Wait until calls run."""
    while metrics.registry.get_sample_value("serving_in_flight") != calls:
        await asyncio.sleep(0)


async def test_the_deadline_of_the_caller_ends_a_call() -> None:
    async with serving_rest(fake_service(tiny(), runtime=gated())) as rest:
        answer = await rest.infer(tiny_request(), TINY, headers={"X-Request-Timeout": "0.05"})
    assert answer.status == 504
    assert "did not answer within" in answer.json["detail"]


async def test_no_caller_can_have_more_than_the_servers_own_deadline() -> None:
    async with serving_rest(fake_service(tiny(), runtime=gated()), call_timeout=0.05) as rest:
        answer = await rest.infer(tiny_request(), TINY, headers={"X-Request-Timeout": "3600"})
    assert answer.status == 504


async def test_both_apis_share_admission_and_a_full_queue_is_refused() -> None:
    runtime, metrics = gated(), Metrics.create()
    service = fake_service(tiny(), runtime=runtime)
    async with serving_rest(service, metrics=metrics, max_running=1, max_queued=0) as rest:
        first = asyncio.ensure_future(rest.infer(tiny_request(), TINY))
        await running(rest, metrics)
        code, _ = await rest.wire.refused("ModelInfer", pb.ModelInferRequest(model_name="tiny").SerializeToString())
        refused = await rest.infer(tiny_request(), TINY)
        assert runtime.gate is not None
        runtime.gate.set()
        assert (await first).json["outputs"][0]["data"] == [3.0]
    assert code.name == "RESOURCE_EXHAUSTED"
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert metrics.registry.get_sample_value("serving_refused_total", {"reason": "queue_full"}) == 2


async def test_a_caller_that_leaves_ends_its_call() -> None:
    runtime, metrics = gated(), Metrics.create()
    async with serving_rest(fake_service(tiny(), runtime=runtime), metrics=metrics) as rest:
        call = asyncio.ensure_future(rest.infer(tiny_request(), TINY))
        await running(rest, metrics)
        call.cancel()
        await running(rest, metrics, calls=0)
        labels = {"method": "ModelInfer", "code": "499"}
        assert metrics.registry.get_sample_value("rest_server_handled_total", labels) == 1


async def test_calls_are_counted_by_method_and_status() -> None:
    metrics = Metrics.create()
    async with serving_rest(fake_service(MODEL), metrics=metrics) as rest:
        await rest.infer(good_json())
        await rest.infer({})
        await rest.get("/nowhere")
    value = metrics.registry.get_sample_value
    assert value("rest_server_started_total", {"method": "ModelInfer"}) == 2
    assert value("rest_server_handling_seconds_count", {"method": "ModelInfer"}) == 2
    for code in ("200", "400"):
        assert value("rest_server_handled_total", {"method": "ModelInfer", "code": code}) == 1
    assert value("grpc_server_started_total", {"grpc_method": "ModelInfer"}) == 0


async def test_a_drain_says_not_ready_first_and_finishes_the_calls_in_flight() -> None:
    runtime, metrics = gated(), Metrics.create()
    service = fake_service(tiny(), runtime=runtime)
    async with serving_rest(service, metrics=metrics, drain=0.2, grace=PATIENCE_S) as rest:
        call = asyncio.ensure_future(rest.infer(tiny_request(), TINY))
        await running(rest, metrics)
        draining = asyncio.ensure_future(rest.server.drain(asyncio.Event()))
        await asyncio.sleep(0)
        ready = await rest.get("/v2/health/ready")
        assert (ready.status, ready.json) == (503, {"ready": False})
        assert (await rest.get("/v2/health/live")).status == 200
        while await accepts(rest):
            await asyncio.sleep(0)
        assert not draining.done()
        assert runtime.gate is not None
        runtime.gate.set()
        answer = await call
        assert answer.json["outputs"][0]["data"] == [3.0]
        assert answer.headers["connection"] == "close"  # so that its caller goes elsewhere
        await asyncio.wait_for(draining, PATIENCE_S)


async def accepts(rest: Rest) -> bool:
    """Return whether the server takes a new connection."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", rest.port)
    except OSError:
        return False
    writer.close()
    return True


async def test_after_the_grace_a_call_in_flight_is_ended() -> None:
    runtime, metrics = gated(), Metrics.create()
    async with serving_rest(fake_service(tiny(), runtime=runtime), metrics=metrics) as rest:
        call = asyncio.ensure_future(rest.infer(tiny_request(), TINY))
        await running(rest, metrics)
        await asyncio.wait_for(rest.server.drain(asyncio.Event()), PATIENCE_S)
        with pytest.raises(aiohttp.ClientError):
            await call


async def test_an_idle_connection_does_not_hold_up_the_stop() -> None:
    async with serving_rest(fake_service(MODEL), grace=PATIENCE_S) as rest:
        assert (await rest.get("/v2")).status == 200
        await asyncio.wait_for(rest.server.drain(asyncio.Event()), PATIENCE_S / 2)


async def test_the_requests_of_the_benchmark_are_answered_alike() -> None:
    request = good(b"text")
    binary = as_binary(request)
    async with serving_rest(fake_service(MODEL)) as rest:
        by_json = await rest.infer(benchmark_json(request))
        by_binary = await rest.infer(binary, headers={HEADER_LENGTH: str(binary.index(b"\n") + 1)})
        answer = await rest.wire.infer(request)
    by_grpc = dict(zip((o.name for o in answer.outputs), answer.raw_output_contents, strict=True))
    assert outputs_of(by_json) == outputs_of(by_binary) == by_grpc
