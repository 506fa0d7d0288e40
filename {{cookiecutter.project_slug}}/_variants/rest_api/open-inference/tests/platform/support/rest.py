"""The REST API around any service, and requests to it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import numpy as np
import orjson
from yarl import URL

from serving.domain.tensors import Datatype
from serving.online.grpc.proto import open_inference_pb2 as pb
from serving.online.grpc.server import GrpcServer
from serving.online.inference import Service
from serving.online.rest.app import HEADER_LENGTH
from serving.online.settings import Settings
from serving.online.telemetry import Metrics
from tests.platform.support.requests import MODEL, ROWS
from tests.platform.support.server import PORTS
from tests.platform.support.wire import Wire, raw

Json = dict[str, Any]
INFER = f"/v2/models/{MODEL.name}/infer"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        return dict(json.loads(self.body))


class Rest:
    """Send requests to one server, and know its gRPC side."""

    def __init__(self, session: aiohttp.ClientSession, port: int, wire: Wire, server: GrpcServer) -> None:
        self.session = session
        self.port = port
        self.wire = wire
        self.server = server

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.ask("GET", path, **options)

    async def infer(self, body: bytes | Json, path: str = INFER, **options: Any) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.ask("POST", path, data=io.BytesIO(data), **options)

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        url = URL(f"http://{self.address}{path}", encoded=True)
        async with self.session.request(method, url, **options) as answer:
            return Answer(answer.status, answer.headers, await answer.read())


@asynccontextmanager
async def serving_rest(service: Service, *, metrics: Metrics | None = None, **settings: Any) -> AsyncIterator[Rest]:
    """Serve a service in this process on free ports, by gRPC and REST."""
    chosen = Settings(**{**dict.fromkeys(PORTS, 0), "drain": 0.0, "grace": 0.0, **settings})
    server = GrpcServer(chosen, service, metrics or Metrics.create())
    ports = await server.start()
    try:
        async with Wire(f"127.0.0.1:{ports['grpc_port']}") as wire, aiohttp.ClientSession() as session:
            yield Rest(session, ports["rest_port"], wire, server)
    finally:
        await server.drain(asyncio.Event())


def good_json() -> Json:
    """Return a valid request to the `rich` model."""
    inputs = []
    for feature in MODEL.manifest.features.model_inputs:
        shape = [ROWS, *feature.shape]
        element: Any = 1
        if feature.datatype.holds_bytes:
            element = "text"
        elif feature.datatype is Datatype.BOOL:
            element = True
        data = [element] * int(np.prod(shape))
        inputs.append({"name": feature.name, "datatype": feature.datatype.wire, "shape": shape, "data": data})
    return {"inputs": inputs}


def tensor_of(request: Json, name: str) -> Json:
    """Return one input of a request."""
    tensor: Json = next(tensor for tensor in request["inputs"] if tensor["name"] == name)
    return tensor


def as_rest(request: pb.ModelInferRequest, **options: Any) -> tuple[str, bytes, dict[str, str]]:
    """Write a gRPC request as REST: path, body and headers; raw contents become binary data."""
    version = f"/versions/{quote(request.model_version, safe='')}" if request.model_version else ""
    path = f"/v2/models/{quote(request.model_name, safe='')}{version}/infer"
    content: Json = {"inputs": [], **options}
    if request.id:
        content["id"] = request.id
    if request.parameters:
        content["parameters"] = dict.fromkeys(request.parameters, 1) | content.get("parameters", {})
    if request.outputs:
        content["outputs"] = [{"name": output.name} for output in request.outputs]
    for number, tensor in enumerate(request.inputs):
        sent: Json = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        parameters: Json = dict.fromkeys(tensor.parameters, 1)
        if number < len(request.raw_input_contents):
            parameters["binary_data_size"] = len(request.raw_input_contents[number])
        if tensor.HasField("contents") or not request.raw_input_contents:
            values = [value for _, values in tensor.contents.ListFields() for value in values]
            sent["data"] = [value.decode() if isinstance(value, bytes) else value for value in values]
        content["inputs"].append(sent | ({"parameters": parameters} if parameters else {}))
    head = orjson.dumps(content)
    if not request.raw_input_contents:
        return path, head, {}
    return path, b"".join([head, *request.raw_input_contents]), {HEADER_LENGTH: str(len(head))}


def outputs_of(answer: Answer) -> dict[str, bytes]:
    """Return the outputs of an answer as raw contents, whichever way they came."""
    length = int(answer.headers.get(HEADER_LENGTH, len(answer.body)))
    blobs = answer.body[length:]
    found = {}
    for output in json.loads(answer.body[:length])["outputs"]:
        if (size := output.get("parameters", {}).get("binary_data_size")) is not None:
            found[output["name"]], blobs = blobs[:size], blobs[size:]
        else:
            dtype = Datatype(output["datatype"]).dtype
            values = [value.encode() for value in output["data"]] if dtype.hasobject else output["data"]
            found[output["name"]] = raw(np.array(values, dtype))
    return found
