"""A bare gRPC channel: messages exactly as the test wrote them, without the client's help."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.domain.tensors import Datatype
from serving.online.grpc.proto import open_inference_pb2 as pb
from serving.online.grpc.servicer import SERVICE

CALL_S = 60.0
"""The deadline of calls whose deadline is not what is tested."""

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

TYPED_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where typed contents travel, by datatype; FP16 has no field."""


class Wire:
    """Call one server."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None = None, name: str = "") -> None:
        self.target = target
        # A separate pool: channels of one process to one address would otherwise share a connection.
        options: list[tuple[str, int | str]] = [("grpc.use_local_subchannel_pool", 1)]
        if name:  # the one in the server's certificate
            options.append(("grpc.ssl_target_name_override", name))
        self.channel = (
            grpc.aio.insecure_channel(target, options)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options)
        )
        self.health = health_pb2_grpc.HealthStub(self.channel)

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.channel.close()

    def call(
        self, method: str, body: bytes, *, timeout: float = CALL_S, metadata: Sequence[tuple[str, str]] = ()
    ) -> grpc.aio.UnaryUnaryCall[bytes, bytes]:
        """Start a call of the protocol with any body."""
        start: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(f"/{SERVICE}/{method}")
        return start(body, timeout=timeout, metadata=tuple(metadata))

    async def infer(self, request: pb.ModelInferRequest, *, timeout: float = CALL_S) -> pb.ModelInferResponse:
        """Predict."""
        answer = await self.call("ModelInfer", request.SerializeToString(), timeout=timeout)
        return pb.ModelInferResponse.FromString(answer)

    async def refused(self, method: str, body: bytes) -> tuple[grpc.StatusCode, str]:
        """Make a call that must fail; return its code and text."""
        try:
            await self.call(method, body)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        raise AssertionError(f"{method} was answered, not refused")

    async def metadata(self, model: str) -> pb.ModelMetadataResponse:
        """Ask for a model's metadata."""
        answer = await self.call("ModelMetadata", pb.ModelMetadataRequest(name=model).SerializeToString())
        return pb.ModelMetadataResponse.FromString(answer)

    async def status(self, service: str = "") -> int:
        """Ask the health service."""
        answer = await self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=CALL_S)
        return int(answer.status)

    async def watch(self, service: str = "") -> AsyncGenerator[int, None]:
        """Yield each health status as the server reports it."""
        call = self.health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=CALL_S)
        try:
            async for answer in call:
                yield int(answer.status)
        finally:
            call.cancel()


def request(
    model: str, columns: Mapping[str, Any], *, datatypes: Mapping[str, Datatype] | None = None, **fields: Any
) -> pb.ModelInferRequest:
    """Write a request with raw contents; columns are FP32, those of bytes BYTES, unless `datatypes` says otherwise."""
    message = pb.ModelInferRequest(model_name=model, **fields)
    for name, values in columns.items():
        guess = Datatype.BYTES if isinstance(next(iter(values), 0.0), bytes) else Datatype.FP32
        datatype = (datatypes or {}).get(name, guess)
        tensor = np.asarray(values, datatype.dtype)
        message.inputs.add(name=name, datatype=datatype.wire, shape=tensor.shape)
        message.raw_input_contents.append(raw(tensor))
    return message


def raw(tensor: np.ndarray[Any, Any]) -> bytes:
    """Return a tensor as the protocol's raw contents."""
    if tensor.dtype == object:
        return b"".join(len(item).to_bytes(4, "little") + item for item in tensor.ravel())
    return tensor.tobytes()


def floats(answer: pb.ModelInferResponse, index: int = 0) -> list[float]:
    """Return the values of a raw FP32 output."""
    return [float(value) for value in np.frombuffer(answer.raw_output_contents[index], "<f4")]
