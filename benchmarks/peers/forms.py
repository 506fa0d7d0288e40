"""The forms in which peers take a request: bytes for the load generator, and the numbers in an answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.peers.models import NAME, Array
from benchmarks.protocol import HEADER_LENGTH, INFER, pb

GRPC, REST = "grpc", "rest"
INPUT = "x"
"""The input of every model."""
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Endpoint:
    """One way to call a server, as `peer.toml` declares it; `send` and `receive` are keys of the JSON."""

    title: str
    form: str
    path: str = ""
    send: str = ""
    receive: str = ""
    output: str = ""
    """The output to ask for; empty for all that the server gives."""
    models: tuple[str, ...] = ()
    """The models that this endpoint serves; empty for all of its peer."""

    @property
    def transport(self) -> str:
        """`grpc` or `rest`."""
        return GRPC if self.form == GRPC else REST

    def request(self, rows: Array) -> Request:
        """Return the request with these rows."""
        return FORMS[self.form][0](self, rows)

    def answer(self, answer: Answer) -> Array:
        """Return the numbers of an answer."""
        return np.ravel(FORMS[self.form][1](self, answer)).astype(np.float64)


@dataclass(frozen=True)
class Request:
    """Hold what is sent."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """Hold what is received; names of headers are in small letters."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def _grpc_request(endpoint: Endpoint, rows: Array) -> Request:
    message = pb.ModelInferRequest(model_name=NAME)
    message.inputs.add(name=INPUT, datatype="FP32", shape=rows.shape)
    message.raw_input_contents.append(rows.tobytes())
    if endpoint.output:
        message.outputs.add(name=endpoint.output)
    return Request(INFER, message.SerializeToString())


def _grpc_answer(_: Endpoint, answer: Answer) -> Array:
    """Read the one output: raw bytes, or numbers in a message."""
    message = pb.ModelInferResponse.FromString(answer.body)
    (output,) = message.outputs
    if message.raw_output_contents:
        return np.frombuffer(message.raw_output_contents[0], {"FP32": "<f4", "FP64": "<f8"}[output.datatype])
    return np.array(output.contents.fp32_contents or output.contents.fp64_contents)


def _json_request(endpoint: Endpoint, rows: Array) -> Request:
    tensor = {"name": INPUT, "datatype": "FP32", "shape": rows.shape, "data": rows.ravel().tolist()}
    asked = {"outputs": [{"name": endpoint.output}]} if endpoint.output else {}
    return Request(endpoint.path, json.dumps({"inputs": [tensor], **asked}).encode(), _JSON)


def _json_answer(_: Endpoint, answer: Answer) -> Array:
    return np.array(json.loads(answer.body)["outputs"][0]["data"])


def _binary_request(endpoint: Endpoint, rows: Array) -> Request:
    parameters = {"binary_data_size": rows.nbytes}
    tensor = {"name": INPUT, "datatype": "FP32", "shape": rows.shape, "parameters": parameters}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return Request(endpoint.path, head + rows.tobytes(), headers)


def _binary_answer(_: Endpoint, answer: Answer) -> Array:
    return np.frombuffer(answer.body, "<f4", offset=int(answer.headers[HEADER_LENGTH.lower()]))


def _lists_request(endpoint: Endpoint, rows: Array) -> Request:
    return Request(endpoint.path, json.dumps({endpoint.send: rows.tolist()}).encode(), _JSON)


def _lists_answer(endpoint: Endpoint, answer: Answer) -> Array:
    found = json.loads(answer.body)
    return np.array(found[endpoint.receive] if endpoint.receive else found)


def _octets_request(endpoint: Endpoint, rows: Array) -> Request:
    return Request(endpoint.path, rows.tobytes(), {"Content-Type": "application/octet-stream"})


def _octets_answer(_: Endpoint, answer: Answer) -> Array:
    return np.frombuffer(answer.body, "<f4")


FORMS: dict[str, tuple[Callable[[Endpoint, Array], Request], Callable[[Endpoint, Answer], Array]]] = {
    GRPC: (_grpc_request, _grpc_answer),
    "protocol-json": (_json_request, _json_answer),
    "protocol-binary": (_binary_request, _binary_answer),
    "lists": (_lists_request, _lists_answer),
    "octets": (_octets_request, _octets_answer),
}
"""By name: gRPC with raw bytes, the protocol's REST as JSON and with raw bytes, nested lists in JSON, raw bytes."""
