"""One tensor as callers send it over gRPC and over REST: each takes a NumPy array and returns the echoed one."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import orjson

from benchmarks.protocol import HEADER_LENGTH, INFER, pb

TIMEOUT_S = 60.0

Tensor = npt.NDArray[np.float32]
Call = Callable[[Tensor], Tensor]
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def grpc_raw(port: int) -> Call:
    """Send `raw_input_contents` of the Open Inference Protocol, as the generated repo's client does."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", _UNLIMITED)
    infer = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)

    def call(tensor: Tensor) -> Tensor:
        request = pb.ModelInferRequest(model_name="echo")
        request.inputs.add(name="x", datatype="FP32", shape=tensor.shape)
        request.raw_input_contents.append(tensor.tobytes())
        response = infer(request, timeout=TIMEOUT_S)
        return np.frombuffer(response.raw_output_contents[0], "<f4").reshape(response.outputs[0].shape)

    return call


def json_rows(port: int) -> Call:
    """Send nested lists, as TensorFlow Serving's REST has them."""
    post = _poster(port, "/v1/models/echo:predict")

    def call(tensor: Tensor) -> Tensor:
        _, body = post(json.dumps({"instances": tensor.tolist()}).encode(), {})
        return np.array(json.loads(body)["predictions"], np.float32)

    return call


def json_tensor(port: int) -> Call:
    """Send a flat list with its shape, as the REST form of the Open Inference Protocol has it."""
    return _json_tensor(port, "/v2/models/echo/infer", json.loads, lambda value: json.dumps(value).encode())


def orjson_tensor(port: int) -> Call:
    """Send the same with a faster library on both sides."""
    return _json_tensor(port, "/orjson/v2/models/echo/infer", orjson.loads, orjson.dumps)


def _json_tensor(port: int, path: str, loads: Callable[[bytes], Any], dumps: Callable[[Any], bytes]) -> Call:
    post = _poster(port, path)

    def call(tensor: Tensor) -> Tensor:
        sent = {"name": "x", "datatype": "FP32", "shape": tensor.shape, "data": tensor.ravel().tolist()}
        _, body = post(dumps({"inputs": [sent]}), {})
        received = loads(body)["outputs"][0]
        return np.array(received["data"], np.float32).reshape(received["shape"])

    return call


def binary_tensor(port: int) -> Call:
    """Send raw bytes over REST: the protocol's binary tensor data extension."""
    post = _poster(port, "/binary/v2/models/echo/infer")

    def call(tensor: Tensor) -> Tensor:
        parameters = {"binary_data_size": tensor.nbytes}
        sent = {"name": "x", "datatype": "FP32", "shape": tensor.shape, "parameters": parameters}
        head = json.dumps({"inputs": [sent], "parameters": {"binary_data_output": True}}).encode()
        headers, body = post(head + tensor.tobytes(), {HEADER_LENGTH: str(len(head))})
        length = int(headers[HEADER_LENGTH])
        shape = json.loads(body[:length])["outputs"][0]["shape"]
        return np.frombuffer(body, "<f4", offset=length).reshape(shape)

    return call


def _poster(port: int, path: str) -> Callable[[bytes, Mapping[str, str]], tuple[Message, bytes]]:
    """Return a function that posts a body over one kept connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)

    def post(body: bytes, headers: Mapping[str, str]) -> tuple[Message, bytes]:
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        content = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(f"POST {path} was answered with {response.status}: {content[:200]!r}")
        return response.headers, content

    return post
