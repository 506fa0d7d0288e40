"""Good requests to the `rich` model, for tests to change; without FP16, which must be sent raw."""

from __future__ import annotations

import numpy as np

from serving.domain.tensors import Datatype
from serving.online.grpc.proto import open_inference_pb2 as pb
from tests.platform.support.artifacts import rich
from tests.platform.support.wire import TYPED_FIELDS, raw

MODEL = rich(datatype for datatype in Datatype if datatype is not Datatype.FP16)
ROWS = 2

Request = pb.ModelInferRequest


def good(text: bytes = b"\xff\x00text") -> Request:
    """Return a valid request with raw contents; BYTES elements may be any bytes."""
    request = Request(model_name=MODEL.name)
    for feature in MODEL.manifest.features.model_inputs:
        values = np.ones((ROWS, *feature.shape)).astype(feature.datatype.dtype)
        if feature.datatype.holds_bytes:
            values.fill(text if feature.datatype is not Datatype.TEXT else b"text")
        request.inputs.add(name=feature.name, datatype=feature.datatype.wire, shape=values.shape)
        request.raw_input_contents.append(raw(values))
    return request


def good_typed() -> Request:
    """Return a valid request with typed contents."""
    request = Request(model_name=MODEL.name)
    for feature in MODEL.manifest.features.model_inputs:
        sent = request.inputs.add(name=feature.name, datatype=feature.datatype.wire, shape=[ROWS, *feature.shape])
        count = int(np.prod(sent.shape))
        element = b"text" if feature.datatype.holds_bytes else 1
        getattr(sent.contents, TYPED_FIELDS[feature.datatype.wire]).extend([element] * count)
    return request


def tensor(request: Request, name: str) -> Request.InferInputTensor:
    """Return one input of a request."""
    return request.inputs[index(name)]


def index(name: str) -> int:
    """Return the index of an input in a request."""
    return [feature.name for feature in MODEL.manifest.features.model_inputs].index(name)
