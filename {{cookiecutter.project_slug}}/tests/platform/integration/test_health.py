from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serving.online.grpc.proto import open_inference_pb2 as pb
from serving.online.grpc.servicer import SERVICE
from serving.online.inference import NoModel
from tests.platform.support.artifacts import tiny
from tests.platform.support.server import serving
from tests.platform.support.services import fake_service
from tests.platform.support.wire import CALL_S, NOT_SERVING, SERVING, Wire, request

NOTHING = NoModel("no model is served: the reason.")


@pytest.mark.parametrize("name", ["", SERVICE, "tiny"])
async def test_with_a_model_the_server_the_service_and_the_model_are_serving(name: str) -> None:
    async with serving(fake_service(tiny())) as wire:
        assert await wire.status(name) == SERVING


@pytest.mark.parametrize("name", ["", SERVICE])
async def test_without_a_model_they_are_not(name: str) -> None:
    async with serving(NOTHING) as wire:
        assert await wire.status(name) == NOT_SERVING


async def test_an_unknown_name_is_not_found() -> None:
    async with serving(fake_service(tiny())) as wire:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await wire.status("other")
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_health_calls_of_the_inference_protocol_are_answered() -> None:
    async with serving(fake_service(tiny())) as wire:
        assert pb.ServerLiveResponse.FromString(await wire.call("ServerLive", b"")).live
        assert pb.ServerReadyResponse.FromString(await wire.call("ServerReady", b"")).ready
        body = pb.ModelReadyRequest(name="tiny", version="1").SerializeToString()
        assert pb.ModelReadyResponse.FromString(await wire.call("ModelReady", body)).ready
        assert pb.ServerMetadataResponse.FromString(await wire.call("ServerMetadata", b"")).name


async def test_without_a_model_the_server_lives_is_not_ready_and_says_why() -> None:
    async with serving(NOTHING) as wire:
        assert pb.ServerLiveResponse.FromString(await wire.call("ServerLive", b"")).live
        assert not pb.ServerReadyResponse.FromString(await wire.call("ServerReady", b"")).ready
        body = request("tiny", {"value": [1.0]}).SerializeToString()
        assert await wire.refused("ModelInfer", body) == (grpc.StatusCode.UNAVAILABLE, NOTHING.reason)


async def services(wire: Wire) -> set[str]:
    """Ask reflection for the services."""

    async def question() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    stub = reflection_pb2_grpc.ServerReflectionStub(wire.channel)
    async for answer in stub.ServerReflectionInfo(question(), timeout=CALL_S):
        return {service.name for service in answer.list_services_response.service}
    return set()


async def test_reflection_is_off_by_default() -> None:
    async with serving(fake_service(tiny())) as wire:
        # Nothing is written: a write that the refusal overtakes ends the call as INTERNAL.
        call = reflection_pb2_grpc.ServerReflectionStub(wire.channel).ServerReflectionInfo(timeout=CALL_S)
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_reflection_lists_and_describes_the_service() -> None:
    async with serving(fake_service(tiny()), reflection=True) as wire:
        assert SERVICE in await services(wire)

        async def question() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)

        stub = reflection_pb2_grpc.ServerReflectionStub(wire.channel)
        answers = [answer async for answer in stub.ServerReflectionInfo(question(), timeout=CALL_S)]
    (files,) = answers[0].file_descriptor_response.file_descriptor_proto
    assert b"ModelInfer" in files
