"""The protocol's calls over HTTP: health, metadata and inference."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serving import TEMPLATE_VERSION
from serving.domain.deadline import Deadline
from serving.domain.errors import DeadlineExceeded, InvalidRequest, NotReady, quoted
from serving.online.admission import Admission
from serving.online.inference import ServedModel, Service
from serving.online.open_inference import check_name
from serving.online.rest import codec
from serving.online.rest.body import Bodies
from serving.online.rest.limits import Limits
from serving.online.rest.openapi import document
from serving.online.rest.scope import CallScope, Endpoint, respond
from serving.online.rest.status import Refused
from serving.online.telemetry import request_id

HEADER_LENGTH = "inference-header-content-length"
TIMEOUT_HEADER = "x-request-timeout"

_BINARY_TYPE = "application/octet-stream"


class RestService:
    """Answer the protocol's calls for one service."""

    def __init__(
        self,
        service: Service,
        admission: Admission,
        bodies: Bodies,
        limits: Limits,
        call_timeout: float,
        *,
        tokens: bool,
    ) -> None:
        self._service = service
        self._admission = admission
        self._bodies = bodies
        self._limits = limits
        self._call_timeout = call_timeout
        self._tokens = tokens
        self.leaving = False
        """Whether the server says that it is not ready, since it is about to stop."""

    def routes(self, scope: CallScope) -> list[BaseRoute]:
        """Return the routes of all calls, each in its scope."""
        one, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
        calls: dict[str, tuple[Endpoint, str, list[str]]] = {
            "ServerLive": (self.server_live, "GET", ["/v2/health/live"]),
            "ServerReady": (self.server_ready, "GET", ["/v2/health/ready"]),
            "ServerMetadata": (self.server_metadata, "GET", ["/v2"]),
            "ModelReady": (self.model_ready, "GET", [f"{one}/ready", f"{version}/ready"]),
            "ModelMetadata": (self.model_metadata, "GET", [one, version]),
            "ModelInfer": (self.model_infer, "POST", [f"{one}/infer", f"{version}/infer"]),
            "OpenApi": (self.openapi, "GET", ["/v2/openapi.json"]),
        }
        return [
            Route(path, wrapped, methods=[method])
            for name, (endpoint, method, paths) in calls.items()
            for wrapped in [scope.wrap(name, endpoint)]
            for path in paths
        ]

    async def server_live(self, request: Request) -> Response:
        """Report liveness."""
        return _json({"live": True})

    async def server_ready(self, request: Request) -> Response:
        """Report readiness, by the status code too."""
        return self._readiness({"ready": self._ready()})

    async def server_metadata(self, request: Request) -> Response:
        """Describe the server."""
        extensions = ["binary_tensor_data"]
        return _json({"name": "ml-serving-template", "version": TEMPLATE_VERSION, "extensions": extensions})

    async def model_ready(self, request: Request) -> Response:
        """Report whether a model is ready, by the status code too; an unknown model is 404."""
        name, version = _named(request)
        if self._has_model():
            self._service.model.check_named(name, version)
        return self._readiness({"name": name, "ready": self._ready()})

    async def model_metadata(self, request: Request) -> Response:
        """Describe the model's inputs and outputs."""
        return _json(codec.metadata(self._asked_for(request)))

    async def model_infer(self, request: Request) -> Response:
        """Predict; admission control covers parsing too."""
        deadline = Deadline(self._timeout(request))
        model = self._asked_for(request)
        body = await self._bodies.read(request, deadline)
        if (left := deadline.left()) <= 0:
            raise DeadlineExceeded(f"the deadline of {deadline.timeout:.3f} s passed while the request was read.")
        async with self._admission.slot(size=len(body), timeout=left) as call:
            decoded = codec.decode(body, _json_length(request, body), model.signature, self._limits)
            del body  # its tensors are held now
            inference = await self._service.infer(decoded.inputs, decoded.outputs, deadline)
            call.took = inference.model_seconds
            content, json_length = codec.encode(inference, decoded, decoded.id or _given_id())
        if json_length is None:
            return Response(content, media_type="application/json")
        return Response(content, headers={HEADER_LENGTH: str(json_length)}, media_type=_BINARY_TYPE)

    async def openapi(self, request: Request) -> Response:
        """Describe these calls for the model that is served."""
        model = self._service.model
        return _json(document(model, tokens=self._tokens))

    def _asked_for(self, request: Request) -> ServedModel:
        name, version = _named(request)
        model = self._service.model
        model.check_named(name, version)
        return model

    def _timeout(self, request: Request) -> float:
        text = request.headers.get(TIMEOUT_HEADER)
        if text is None:
            return self._call_timeout
        try:
            given = float(text)
        except ValueError:
            given = math.nan
        if not 0 < given < math.inf:
            raise InvalidRequest(f"header {TIMEOUT_HEADER} {quoted(text)}: must be a number of seconds above 0.")
        return min(given, self._call_timeout)

    def _has_model(self) -> bool:
        try:
            return bool(self._service.model)
        except NotReady:
            return False

    def _ready(self) -> bool:
        return not self.leaving and self._has_model()

    def _readiness(self, content: dict[str, Any]) -> Response:
        return _json(content, HTTPStatus.OK if content["ready"] else HTTPStatus.SERVICE_UNAVAILABLE)


def make_app(routes: list[BaseRoute]) -> Starlette:
    """Return the app; what no route takes is a problem too."""
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_route})


async def _no_route(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    status = HTTPStatus(error.status_code)
    texts = {
        HTTPStatus.NOT_FOUND: "there is nothing at this path; the paths are at /v2/openapi.json.",
        HTTPStatus.METHOD_NOT_ALLOWED: "this path takes another method; the header `allow` has it.",
    }
    return respond(Refused(status, texts.get(status, f"{error.detail}."), error.headers))


def _json(content: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _named(request: Request) -> tuple[str, str]:
    name, version = request.path_params["model"], request.path_params.get("version", "")
    check_name(name, version)
    return name, version


def _json_length(request: Request, body: bytes) -> int | None:
    """Return where the binary tensors begin; None without any."""
    text = request.headers.get(HEADER_LENGTH)
    if text is None:
        return None
    length = int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 else -1
    if not 0 <= length <= len(body):
        raise InvalidRequest(
            f"header {HEADER_LENGTH} {quoted(text)}: must be a number from 0 to {len(body)}, the length of the body."
        )
    return length


def _given_id() -> str:
    """Return the id that the caller sent beside the request; empty if it sent none."""
    current = request_id.get()
    return "" if current is None else current.given
