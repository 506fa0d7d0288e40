"""Clients for the tests of your own code: they need no server and answer what you tell them.

    from serving_client.testing import FakeClient

    fake = FakeClient(metadata, {"score": 0.7})
    fake.predict({"amount": [12.0, 99.0]}, timeout=1.0)["score"]  # [0.7, 0.7]
    fake.requests[0].inputs["amount"]
    fake.raise_next(Overloaded("too many calls."))

A fake is a real client on a channel that ends in this process, so it checks arguments and reads answers with the same
code. `metadata` is what `Client.metadata` returns, or a `ModelMetadata` that you write yourself. It does not say what
else a server refuses, such as NaN or an unknown entity: use `raise_next` for these.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import grpc
import numpy as np
import numpy.typing as npt

from ._proto import health_pb2
from ._proto import open_inference_pb2 as pb
from .aio import AsyncClient
from .client import Client
from .deadline import Deadline
from .errors import InvalidRequest, NotFound, ServingClientError, to_status
from .health import CHECK, SERVING, WATCH
from .model import ModelMetadata, Tensor, TensorMetadata
from .protocol import CONTENT_TYPE, INFER, METADATA, TEXT
from .tensors import from_raw, to_raw, to_tensor

__all__ = ["Answers", "FakeAsyncClient", "FakeClient", "Request"]

Answer = Mapping[str, npt.ArrayLike]
Answers = Answer | Callable[[Mapping[str, Tensor]], Answer]
"""One value per output, repeated for every row; or a function from the inputs, as arrays, to the outputs."""

Rows = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Request:
    """Hold a request as the model gets it: arrays of the declared datatypes, text as bytes."""

    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    version: str
    request_id: str


class _Controls:
    """What a test sets and reads on a fake."""

    _server: _Server

    @property
    def requests(self) -> Sequence[Request]:
        """All predictions asked for so far, those included that raised an error of `raise_next`."""
        return tuple(self._server.requests)

    def raise_next(self, *errors: ServingClientError) -> None:
        """Let the next calls raise errors of this kind and text, one each; request id and code are filled in."""
        for error in errors:
            if not isinstance(error, ServingClientError):
                raise TypeError(
                    f"raise_next: {error!r} is not an error of this client; give one, such as Overloaded('busy.')."
                )
        self._server.errors.extend(errors)

    def set_health(self, status: str) -> None:
        """Report this status from now on: SERVING, NOT_SERVING, SERVICE_UNKNOWN or UNKNOWN."""
        self._server.health = health_pb2.HealthCheckResponse(
            status=health_pb2.HealthCheckResponse.ServingStatus.Value(status)
        )


class FakeClient(_Controls, Client):
    """Answer as a `Client` of the described model does, without a server.

    `answers` has one value per output, repeated for every row, or is a function from inputs to outputs. `defaulted` and
    `last_known` are those of every prediction. A watch of the health ends after the present status.

    :raises ValueError: fixed answers don't fit the outputs
    """

    def __init__(
        self,
        metadata: ModelMetadata,
        answers: Answers,
        *,
        defaulted: Rows | None = None,
        last_known: Rows | None = None,
    ) -> None:
        self._server = _Server(metadata, answers, defaulted, last_known)
        super().__init__(channel=cast("grpc.Channel", _Channel(self._server)), model=metadata.name)
        self._known = metadata

    def _changed(self, known: ModelMetadata, deadline: Deadline) -> ModelMetadata | None:
        return None  # the model of a fake stays


class FakeAsyncClient(_Controls, AsyncClient):
    """Answer as an `AsyncClient` of the described model does, without a server; see `FakeClient`."""

    def __init__(
        self,
        metadata: ModelMetadata,
        answers: Answers,
        *,
        defaulted: Rows | None = None,
        last_known: Rows | None = None,
    ) -> None:
        self._server = _Server(metadata, answers, defaulted, last_known)
        super().__init__(channel=cast("grpc.aio.Channel", _AioChannel(self._server)), model=metadata.name)
        self._known = metadata

    async def _changed(self, known: ModelMetadata, deadline: Deadline) -> ModelMetadata | None:
        return None


class _Server:
    """Do what the server does with a request that the client has let through."""

    def __init__(
        self, metadata: ModelMetadata, answers: Answers, defaulted: Rows | None, last_known: Rows | None
    ) -> None:
        self.requests: list[Request] = []
        self.errors: deque[ServingClientError] = deque()
        self.health = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.ServingStatus.Value(SERVING))
        self._metadata = metadata
        self._answers = answers
        self._flags = {"defaulted_features": defaulted or {}, "last_known_features": last_known or {}}
        self._methods: Mapping[str, Callable[[Any], Any]] = {
            INFER[0]: self._infer,
            METADATA[0]: self._describe,
            CHECK[0]: self._check,
            WATCH[0]: self._check,
        }
        if not callable(answers):
            self._outputs({}, rows=1)

    def answer(self, method: str, request: Any) -> Any:
        """Answer one call.

        :raises ServingClientError: the status that the call ends with, as an error
        """
        return self._methods[method](request)

    def _fail_if_told(self) -> None:
        if self.errors:
            raise self.errors.popleft()

    def _check(self, _request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        self._fail_if_told()
        return self.health

    def _describe(self, _request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        self._fail_if_told()
        model = self._metadata
        response = pb.ModelMetadataResponse(name=model.name, versions=model.versions, platform=model.platform)
        for side, specs in ((response.inputs, model.inputs), (response.outputs, model.outputs)):
            for spec in specs:
                side.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        for key, value in model.properties.items():
            response.properties[key] = value
        return response

    def _infer(self, message: pb.ModelInferRequest) -> pb.ModelInferResponse:
        raws = zip(message.inputs, message.raw_input_contents, strict=True)
        inputs = {tensor.name: from_raw(tensor.datatype, tensor.shape, raw) for tensor, raw in raws}
        wanted = tuple(output.name for output in message.outputs)
        self.requests.append(Request(inputs, wanted, message.model_version, message.id))
        self._fail_if_told()
        version = self._version(message.model_version)
        rows = self._checked_rows(inputs)
        outputs = self._outputs(inputs, rows)
        response = pb.ModelInferResponse(model_name=self._metadata.name, model_version=version, id=message.id)
        response.parameters["artifact_digest"].string_param = self._metadata.properties.get("artifact_digest", "")
        for key, flags in self._flags.items():
            response.parameters[key].string_param = json.dumps({name: list(rows) for name, rows in flags.items()})
        datatypes = {spec.name: spec.datatype for spec in self._metadata.outputs}
        for name in wanted or datatypes:
            output = response.outputs.add(name=name, datatype=datatypes[name], shape=outputs[name].shape)
            if self._metadata.properties.get(f"{name}.{CONTENT_TYPE}") == TEXT:
                output.parameters[CONTENT_TYPE].string_param = TEXT
            response.raw_output_contents.append(to_raw(outputs[name]))
        return response

    def _version(self, wanted: str) -> str:
        served = next(iter(self._metadata.versions), "")
        if wanted not in ("", served):
            raise NotFound(f"model version {wanted!a} is not served here; this server has version {served}.")
        return served

    def _checked_rows(self, inputs: Mapping[str, Tensor]) -> int:
        """Return the number of rows; a server's own description says how many it takes."""
        name, tensor = next(iter(inputs.items()))
        most = self._metadata.properties.get("max_rows")
        if most is not None and not 1 <= len(tensor) <= int(most):
            raise InvalidRequest(
                f"input {name!a}: has {len(tensor)} rows, must have 1 to {most}; split a larger batch."
            )
        return len(tensor)

    def _outputs(self, inputs: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Return the answers as arrays of the declared datatypes and shapes.

        :raises ValueError: they don't fit the outputs
        """
        answer = self._answers(inputs) if callable(self._answers) else self._answers
        declared = [spec.name for spec in self._metadata.outputs]
        if sorted(answer) != sorted(declared):
            raise ValueError(f"answers: has {', '.join(answer) or 'nothing'}, must have {', '.join(declared)}.")
        return {spec.name: self._output(spec, answer[spec.name], rows) for spec in self._metadata.outputs}

    def _output(self, spec: TensorMetadata, value: npt.ArrayLike, rows: int) -> Tensor:
        shape = (rows, *spec.shape[1:])
        try:
            if not callable(self._answers):
                value = np.broadcast_to(np.asarray(value, object if spec.datatype == "BYTES" else None), shape)
            return to_tensor(TensorMetadata(spec.name, spec.datatype, shape), value)
        except ValueError as error:
            reason = str(error).removeprefix(f"input {spec.name!a}: ")
            raise ValueError(f"answers: {spec.name!a} does not fit [{_shape_text(spec)}]: {reason}") from None


class _Status(grpc.RpcError):
    """The error that gRPC raises for a status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self._code = code
        self._text = text

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._text


class _Channel:
    """The part of a `grpc.Channel` that a client uses."""

    def __init__(self, server: _Server) -> None:
        self._server = server

    def unary_unary(self, method: str, *_serializers: Any) -> Callable[..., Any]:
        return lambda request, **_options: self._answer(method, request)

    def unary_stream(self, method: str, *_serializers: Any) -> Callable[..., _Stream]:
        return lambda request, **_options: _Stream(lambda: self._answer(method, request))

    def _answer(self, method: str, request: Any) -> Any:
        try:
            return self._server.answer(method, request)
        except ServingClientError as error:
            raise _Status(*to_status(error)) from None


class _Stream:
    """A stream of one response."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call

    def __iter__(self) -> Iterator[Any]:
        yield self._call()

    def cancel(self) -> None:
        """Do nothing: there is no call to end."""


class _AioChannel:
    """The part of a `grpc.aio.Channel` that a client uses."""

    def __init__(self, server: _Server) -> None:
        self._server = server

    def unary_unary(self, method: str, *_serializers: Any) -> Callable[..., Awaitable[Any]]:
        return lambda request, **_options: self._answer(method, request)

    def unary_stream(self, method: str, *_serializers: Any) -> Callable[..., _AioStream]:
        return lambda request, **_options: _AioStream(lambda: self._answer(method, request))

    async def _answer(self, method: str, request: Any) -> Any:
        try:
            return self._server.answer(method, request)
        except ServingClientError as error:
            code, text = to_status(error)
            raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), text) from None


class _AioStream:
    """A stream of one response, for asyncio."""

    def __init__(self, call: Callable[[], Awaitable[Any]]) -> None:
        self._call = call

    async def __aiter__(self) -> AsyncIterator[Any]:
        yield await self._call()

    def cancel(self) -> None:
        """Do nothing: there is no call to end."""


def _shape_text(spec: TensorMetadata) -> str:
    return ", ".join("rows" if size < 0 else str(size) for size in spec.shape)
