"""The gRPC service of the Open Inference Protocol: six methods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc

from serving import TEMPLATE_VERSION
from serving.domain.deadline import Deadline
from serving.domain.errors import NotReady
from serving.online.admission import Admission
from serving.online.grpc import codec
from serving.online.grpc.proto import open_inference_pb2 as pb
from serving.online.inference import Service
from serving.online.open_inference import check_name
from serving.online.telemetry import request_id

SERVICE = "inference.GRPCInferenceService"

Context = grpc.aio.ServicerContext[bytes, bytes]
Method = Callable[[bytes, Context], Awaitable[bytes]]


class InferenceServicer:
    """Answer the protocol's calls for one service.

    Requests arrive as bytes, so that we refuse a malformed body ourselves; gRPC would answer UNKNOWN.
    """

    def __init__(self, service: Service, admission: Admission, call_timeout: float) -> None:
        self._service = service
        self._admission = admission
        self._call_timeout = call_timeout

    def handler(self, wrap: Callable[[str, Method], Method]) -> grpc.GenericRpcHandler:
        """Return the handler to register with a server, each method wrapped under its name."""
        methods: dict[str, Method] = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.model_infer,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE, {name: grpc.unary_unary_rpc_method_handler(wrap(name, method)) for name, method in methods.items()}
        )

    async def server_live(self, body: bytes, context: Context) -> bytes:
        """Report liveness."""
        codec.parse(pb.ServerLiveRequest, body)
        return pb.ServerLiveResponse(live=True).SerializeToString()

    async def server_ready(self, body: bytes, context: Context) -> bytes:
        """Report readiness."""
        codec.parse(pb.ServerReadyRequest, body)
        return pb.ServerReadyResponse(ready=self._ready()).SerializeToString()

    async def server_metadata(self, body: bytes, context: Context) -> bytes:
        """Describe the server; it supports no protocol extensions."""
        codec.parse(pb.ServerMetadataRequest, body)
        return pb.ServerMetadataResponse(name="ml-serving-template", version=TEMPLATE_VERSION).SerializeToString()

    async def model_ready(self, body: bytes, context: Context) -> bytes:
        """Report whether a model is ready; an unknown model is NOT_FOUND."""
        request = codec.parse(pb.ModelReadyRequest, body)
        check_name(request.name, request.version)
        if self._ready():
            self._service.model.check_named(request.name, request.version)
        return pb.ModelReadyResponse(ready=self._ready()).SerializeToString()

    async def model_metadata(self, body: bytes, context: Context) -> bytes:
        """Describe the model's inputs and outputs."""
        request = codec.parse(pb.ModelMetadataRequest, body)
        check_name(request.name, request.version)
        model = self._service.model
        model.check_named(request.name, request.version)
        return codec.metadata(model).SerializeToString()

    async def model_infer(self, body: bytes, context: Context) -> bytes:
        """Predict; admission control covers parsing too."""
        given = context.time_remaining()
        timeout = self._call_timeout if given is None else min(given, self._call_timeout)
        deadline = Deadline(timeout)
        async with self._admission.slot(size=len(body), timeout=timeout) as call:
            request = codec.parse(pb.ModelInferRequest, body)
            model = self._service.model
            if request.model_name != model.reference.model or request.model_version:
                check_name(request.model_name, request.model_version)
                model.check_named(request.model_name, request.model_version)
            decoded = codec.decode(request, model.signature)
            inference = await self._service.infer(decoded.inputs, decoded.outputs, deadline)
            call.took = inference.model_seconds
            answer = codec.encode(inference, raw=decoded.raw, request_id=request.id or _given_id())
            return answer.SerializeToString()

    def _ready(self) -> bool:
        try:
            return bool(self._service.model)
        except NotReady:
            return False


def _given_id() -> str:
    """Return the id that the caller sent beside the request; empty if it sent none."""
    current = request_id.get()
    return "" if current is None else current.given
