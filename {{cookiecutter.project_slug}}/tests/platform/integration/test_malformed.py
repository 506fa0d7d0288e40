"""Every class of malformed request over a real connection gets a code and one sentence; the server survives."""

from __future__ import annotations

import grpc
import pytest

from serving.domain.references import read_lock
from serving.domain.tensors import Datatype, Signature, TensorSpec
from serving.online.grpc.codec import max_request_bytes
from serving.online.grpc.proto import open_inference_pb2 as pb
from tests.platform.support.malformed import MALFORMED, Malformed
from tests.platform.support.requests import MODEL, good
from tests.platform.support.server import ServerProcess, serving
from tests.platform.support.services import fake_service
from tests.platform.support.wire import SERVING, Wire
from tests.platform.support.workspace import THIS_REPO, Workspace

MAX_TEXT = 500
MEGABYTE = 1_000_000
INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def refusal(body: bytes) -> tuple[grpc.StatusCode, str]:
    """Send a body to a server of the rich model; it must refuse it, then answer a good request."""
    async with serving(fake_service(MODEL)) as wire:
        code, text = await wire.refused("ModelInfer", body)
        assert await wire.status() == SERVING
        assert len((await wire.infer(good())).outputs) == len(MODEL.manifest.outputs)
    return code, text


@pytest.mark.parametrize("case", MALFORMED, ids=str)
async def test_each_class_gets_its_code_and_one_clear_sentence(case: Malformed) -> None:
    code, text = await refusal(case.body())
    assert code is case.code
    assert text.isascii()
    assert text.isprintable()
    assert text.endswith(".")
    assert len(text) <= MAX_TEXT
    for word in case.words:
        assert word in text
    for inside in (str(THIS_REPO), "site-packages", ".py", "Traceback"):
        assert inside not in text


async def test_bytes_that_are_not_a_message_are_refused() -> None:
    assert (await refusal(b"\xff\xff\xff\xff"))[0] is INVALID


async def test_100_000_empty_inputs_are_refused_by_their_number() -> None:
    request = pb.ModelInferRequest(model_name=MODEL.name)
    request.inputs.extend(pb.ModelInferRequest.InferInputTensor() for _ in range(100_000))
    code, text = await refusal(request.SerializeToString())
    assert code is INVALID
    assert "100000" in text


async def test_a_body_over_the_limit_never_reaches_the_service() -> None:
    limit = max_request_bytes(fake_service(MODEL).model.signature)
    assert (await refusal(b"x" * (limit + 1)))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await refusal(b"x" * limit))[0] is INVALID


async def test_a_name_of_one_megabyte_exceeds_the_limit_of_a_small_signature() -> None:
    body = pb.ModelInferRequest(model_name="n" * MEGABYTE).SerializeToString()
    async with serving(fake_service(MODEL, max_rows=64)) as wire:
        code, _ = await wire.refused("ModelInfer", body)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_limit_of_the_trained_example_follows_from_its_metadata(
    example: Workspace, example_server: ServerProcess
) -> None:
    async with Wire(example_server.target) as wire:
        message = await wire.metadata(read_lock(example.root / "model.lock").model)
        inputs = tuple(TensorSpec(t.name, Datatype(t.datatype), tuple(t.shape)) for t in message.inputs)
        limit = max_request_bytes(Signature(inputs, (), int(message.properties["max_rows"])))
        for length, code in ((limit - 100, INVALID), (limit + 1, grpc.StatusCode.RESOURCE_EXHAUSTED)):
            body = pb.ModelInferRequest(model_name="n" * length).SerializeToString()
            assert (await wire.refused("ModelInfer", body))[0] is code


@pytest.mark.parametrize("method", ["ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata"])
async def test_the_other_calls_also_refuse_bytes_that_are_not_a_message(method: str) -> None:
    async with serving(fake_service(MODEL)) as wire:
        code, _ = await wire.refused(method, b"\xff\xff\xff\xff")
    assert code is INVALID


async def test_an_unknown_method_is_unimplemented() -> None:
    async with serving(fake_service(MODEL)) as wire:
        code, _ = await wire.refused("RepositoryModelLoad", b"")
    assert code is grpc.StatusCode.UNIMPLEMENTED
