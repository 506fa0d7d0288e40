"""Two servers that send a tensor back: `python -m benchmarks.echoes grpc` or `rest`.

Both read the tensor into a NumPy array and write it out again, as a server with a model has to. Each prints its port.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import fastapi
import grpc
import numpy as np
import orjson
import uvicorn

from benchmarks.protocol import HEADER_LENGTH, INFER, pb

_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


async def serve_grpc() -> None:
    """Serve the Open Inference Protocol, as the generated repo's server does: one process, one event loop."""

    async def infer(body: bytes, _context: Any) -> bytes:
        request = pb.ModelInferRequest.FromString(body)
        declared = request.inputs[0]
        tensor = np.frombuffer(request.raw_input_contents[0], "<f4").reshape(declared.shape)
        response = pb.ModelInferResponse(model_name=request.model_name)
        response.outputs.add(name="y", datatype="FP32", shape=tensor.shape)
        response.raw_output_contents.append(tensor.tobytes())
        return bytes(response.SerializeToString())

    server = grpc.aio.server(options=_UNLIMITED)
    service, method = INFER.strip("/").split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(infer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


def rest_app() -> fastapi.FastAPI:
    """Return an application for JSON in TensorFlow Serving's form and in that of the Open Inference Protocol.

    It parses bodies itself: validating every number with pydantic, as a declared type would, is many times slower.
    """

    async def predict(request: fastapi.Request) -> fastapi.Response:
        tensor = np.array(json.loads(await request.body())["instances"], np.float32)
        return _json(json.dumps({"predictions": tensor.tolist()}).encode())

    def tensors(loads: Callable[[bytes], Any], dumps: Callable[[Any], bytes]) -> Any:
        async def infer(request: fastapi.Request) -> fastapi.Response:
            sent = loads(await request.body())["inputs"][0]
            tensor = np.array(sent["data"], np.float32).reshape(sent["shape"])
            output = {"name": "y", "datatype": "FP32", "shape": tensor.shape, "data": tensor.ravel().tolist()}
            return _json(dumps({"model_name": "echo", "outputs": [output]}))

        return infer

    async def binary(request: fastapi.Request) -> fastapi.Response:
        body = await request.body()
        length = int(request.headers[HEADER_LENGTH])
        sent = json.loads(body[:length])["inputs"][0]
        tensor = np.frombuffer(body, "<f4", offset=length).reshape(sent["shape"])
        output = {"name": "y", "datatype": "FP32", "shape": tensor.shape}
        output["parameters"] = {"binary_data_size": tensor.nbytes}
        head = json.dumps({"model_name": "echo", "outputs": [output]}).encode()
        headers = {HEADER_LENGTH: str(len(head))}
        return fastapi.Response(head + tensor.tobytes(), headers=headers, media_type="application/octet-stream")

    app = fastapi.FastAPI()
    app.post("/v1/models/echo:predict")(predict)
    app.post("/v2/models/echo/infer")(tensors(json.loads, lambda value: json.dumps(value).encode()))
    app.post("/orjson/v2/models/echo/infer")(tensors(orjson.loads, orjson.dumps))
    app.post("/binary/v2/models/echo/infer")(binary)
    return app


def _json(content: bytes) -> fastapi.Response:
    return fastapi.Response(content, media_type="application/json")


class _Announced(uvicorn.Server):  # type: ignore[misc]  # installed for the benchmark only
    """Print the port as soon as callers can connect."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)


def serve_rest() -> None:
    """Serve with uvicorn: one process, its fast parser and event loop.

    It opens the socket itself. On one from `Config.bind_socket`, asyncio does not set TCP_NODELAY, and a small call
    took 44 ms.
    """
    options = {"host": "127.0.0.1", "port": 0, "log_level": "warning", "timeout_keep_alive": 600}
    _Announced(uvicorn.Config(rest_app(), **options)).run()


if __name__ == "__main__":
    if sys.argv[1] == "grpc":
        asyncio.run(serve_grpc())
    else:
        serve_rest()
