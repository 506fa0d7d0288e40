"""A real gRPC server with a fake model: it echoes, unless a test scripts something else."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from serving.online.grpc.proto import open_inference_pb2 as pb
from tests.platform.support.server import PATIENCE_S

SERVICE = "inference.GRPCInferenceService"
MODEL = "echo"
DIGEST = f"sha256={'0' * 64}"

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING

Context = grpc.ServicerContext
Step = Callable[[Context], None]
"""What a scripted call does before it is answered; it may end the call."""

Spec = tuple[str, str, Sequence[int]]
NUMBERS: tuple[Spec, ...] = (("numbers", "FP32", [-1]),)


def refuse(code: grpc.StatusCode, text: str = "as scripted.") -> Step:
    """Return a step that ends the call with a status."""

    def step(context: Context) -> None:
        context.abort(code, text)

    return step


class Hold:
    """A step that holds the call until it is released or cancelled by the caller."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._released = threading.Event()
        self._over = threading.Event()

    def __call__(self, context: Context) -> None:
        context.add_callback(self._end)
        self._entered.set()
        self._released.wait(PATIENCE_S)

    def _end(self) -> None:
        self._over.set()
        self._released.set()

    def release(self) -> None:
        self._released.set()

    def wait_entered(self) -> None:
        """Wait until a call is held."""
        assert self._entered.wait(PATIENCE_S)

    def wait_over(self) -> None:
        """Wait until gRPC reports that the call has ended."""
        assert self._over.wait(PATIENCE_S)


class FakeServer:
    """Answer the six calls and, by default, grpc.health.v1; every output is the input of the same name."""

    def __init__(
        self,
        *,
        port: int = 0,
        version: str = "1",
        serves: HealthCheckResponse.ServingStatus | None = SERVING,
        credentials: grpc.ServerCredentials | None = None,
        max_request_bytes: int = -1,
    ) -> None:
        self.version = version
        self.specs = NUMBERS
        self.parameters: dict[str, str] = {"artifact_digest": DIGEST}
        self._scripts: dict[str, deque[Step]] = defaultdict(deque)
        self._calls: list[tuple[str, str]] = []
        self._called = threading.Condition()
        self._pool = ThreadPoolExecutor(max_workers=64)
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", max_request_bytes)]
        self._server = grpc.server(self._pool, options=options)
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self._health = _RecordedHealth(self._record)
        if serves is not None:
            self.set_health(serves)
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        address = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self._server.start()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        """Stop at once, in the middle of every call."""
        self._server.stop(None).wait(PATIENCE_S)
        self._pool.shutdown()

    def set_health(self, status: HealthCheckResponse.ServingStatus) -> None:
        self._health.set(SERVICE, status)

    def script(self, method: str, *steps: Step) -> None:
        """Run one of these steps first in each of the next calls of a method."""
        self._scripts[method].extend(steps)

    def request_ids(self, method: str) -> list[str]:
        """Return the request id in the metadata of every call of a method so far."""
        return [request_id for called, request_id in self._calls if called == method]

    def wait_for(self, method: str) -> None:
        """Wait until a method has been called."""
        with self._called:
            assert self._called.wait_for(lambda: self.request_ids(method), PATIENCE_S)

    def _handlers(self) -> grpc.GenericRpcHandler:
        methods: dict[str, tuple[Any, Callable[[Any, Context], Any]]] = {
            "ServerLive": (pb.ServerLiveRequest, lambda request, context: pb.ServerLiveResponse(live=True)),
            "ServerReady": (pb.ServerReadyRequest, lambda request, context: pb.ServerReadyResponse(ready=True)),
            "ServerMetadata": (pb.ServerMetadataRequest, lambda request, context: pb.ServerMetadataResponse()),
            "ModelReady": (pb.ModelReadyRequest, lambda request, context: pb.ModelReadyResponse(ready=True)),
            "ModelMetadata": (pb.ModelMetadataRequest, self._metadata),
            "ModelInfer": (pb.ModelInferRequest, self._infer),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._scripted(name, answer),
                request_deserializer=request.FromString,
                response_serializer=lambda response: response.SerializeToString(),
            )
            for name, (request, answer) in methods.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _scripted(self, method: str, answer: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Any]:
        def call(request: Any, context: Context) -> Any:
            self._record(method, dict(context.invocation_metadata()).get("x-request-id", ""))
            try:
                step = self._scripts[method].popleft()
            except IndexError:
                pass
            else:
                step(context)
            return answer(request, context)

        return call

    def _record(self, method: str, request_id: str) -> None:
        with self._called:
            self._calls.append((method, request_id))
            self._called.notify_all()

    def _metadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        self._check_model(request.name, context)
        response = pb.ModelMetadataResponse(name=MODEL, versions=[self.version], platform="fake")
        for name, datatype, shape in self.specs:
            response.inputs.add(name=name, datatype=datatype, shape=shape)
            response.outputs.add(name=name, datatype=datatype, shape=shape)
            response.properties[f"{name}.unit"] = "mm"
        return response

    def _infer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        self._check_model(request.model_name, context)
        if [tensor.name for tensor in request.inputs] != [name for name, _, _ in self.specs]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the inputs are others.")
        response = pb.ModelInferResponse(model_name=MODEL, model_version=self.version, id=request.id)
        for key, value in self.parameters.items():
            response.parameters[key].string_param = value
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            response.raw_output_contents.append(raw)
        return response

    def _check_model(self, name: str, context: Context) -> None:
        if name != MODEL:
            context.abort(grpc.StatusCode.NOT_FOUND, f"model {name!a} is not served here.")


class _RecordedHealth(health.HealthServicer):
    """Record who watches."""

    def __init__(self, record: Callable[[str, str], None]) -> None:
        super().__init__(experimental_non_blocking=True)
        self._tell = record

    def Watch(self, request: Any, context: Context, *arguments: Any) -> Any:
        answer = super().Watch(request, context, *arguments)
        self._tell("Watch", request.service)
        return answer

    Watch.experimental_non_blocking = True  # type: ignore[attr-defined]
