"""Shared by both clients: build requests and parse answers; makes no calls."""

from __future__ import annotations

import functools
import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ._proto import open_inference_pb2 as pb
from .channel import INFERENCE
from .errors import InvalidRequest, ServerFault
from .model import ModelMetadata, Prediction, Tensor, TensorMetadata
from .tensors import DTYPES, from_raw, objects, shaped, to_raw, to_tensor

INFER = (
    f"/{INFERENCE}/ModelInfer",
    pb.ModelInferRequest.SerializeToString,
    pb.ModelInferResponse.FromString,
)
METADATA = (
    f"/{INFERENCE}/ModelMetadata",
    pb.ModelMetadataRequest.SerializeToString,
    pb.ModelMetadataResponse.FromString,
)

CONTENT_TYPE, TEXT = "content_type", "str"
"""The parameter that marks BYTES as text in UTF-8."""

REQUEST_ID_KEY = "x-request-id"
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")

Inputs = Mapping[str, npt.ArrayLike]


@functools.cache
def default_model() -> str:
    """Return the name of this client's own model."""
    described = json.loads(Path(__file__).with_name("service.json").read_text(encoding="utf-8"))
    return str(described["model"])


def checked_request_id(request_id: str | None) -> str:
    """Return the caller's id for a request, or a new one.

    :raises InvalidRequest: it can't be sent or logged
    """
    if request_id is None:
        return uuid.uuid4().hex
    if not _REQUEST_ID.fullmatch(request_id):
        raise InvalidRequest(f"request_id: {request_id[:64]!a} must be 1 to 128 visible ASCII characters, no spaces.")
    return request_id


@dataclass(frozen=True)
class InferRequest:
    """Hold a caller's request, independent of server and transport."""

    inputs: Inputs
    outputs: Sequence[str]
    version: str
    request_id: str

    def request(self, metadata: ModelMetadata) -> pb.ModelInferRequest:
        """Build the message for a model, with raw contents.

        :raises InvalidRequest: an input is missing, or an input or output is unknown or does not fit
        """
        specs = {spec.name: spec for spec in metadata.inputs}
        _check_known("input", self.inputs, list(specs))
        _check_known("output", self.outputs, [spec.name for spec in metadata.outputs])
        if len(set(self.outputs)) != len(self.outputs):
            raise InvalidRequest("outputs: the same output is asked for twice.")
        request = pb.ModelInferRequest(model_name=metadata.name, model_version=self.version, id=self.request_id)
        rows = None
        for name, spec in specs.items():
            if name not in self.inputs:
                raise InvalidRequest(f"input {name!a} is missing; the inputs are {', '.join(specs)}.")
            tensor = to_tensor(spec, self.inputs[name])
            if spec.shape[:1] == (-1,):
                if rows not in (None, len(tensor)):
                    raise InvalidRequest(f"input {name!a}: has {len(tensor)} rows, the inputs before it have {rows}.")
                rows = len(tensor)
            request.inputs.add(name=name, datatype=spec.datatype, shape=tensor.shape)
            request.raw_input_contents.append(to_raw(tensor))
        for name in self.outputs:
            request.outputs.add(name=name)
        return request

    def prediction(self, response: pb.ModelInferResponse) -> Prediction:
        """Parse the answer.

        :raises ServerFault: it breaks the protocol
        """
        raws = response.raw_output_contents
        try:
            outputs = {
                output.name: _text_if_marked(
                    output, from_raw(output.datatype, output.shape, raws[index]) if raws else _from_typed(output)
                )
                for index, output in enumerate(response.outputs)
            }
            flags = [_flags(response, key) for key in ("defaulted_features", "last_known_features")]
        except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
            raise ServerFault(f"the answer can't be read: {error!r}.", request_id=self.request_id) from None
        digest = response.parameters["artifact_digest"].string_param
        return Prediction(outputs, response.model_name, response.model_version, digest, self.request_id, *flags)


def _flags(response: pb.ModelInferResponse, key: str) -> dict[str, tuple[int, ...]]:
    """Parse the rows that used a fallback, by feature."""
    flags = json.loads(response.parameters[key].string_param or "{}")
    return {str(name): tuple(int(row) for row in rows) for name, rows in flags.items()}


def _check_known(side: str, given: Iterable[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise InvalidRequest(f"{side} {name!a} is unknown; the {side}s are {', '.join(known)}.")


def _from_typed(output: pb.ModelInferResponse.InferOutputTensor) -> Tensor:
    values = [item for _, items in output.contents.ListFields() for item in items]
    tensor = np.empty(len(values), dtype=DTYPES[output.datatype])
    tensor[:] = values
    return shaped(tensor, output.shape)


def _text_if_marked(output: pb.ModelInferResponse.InferOutputTensor, tensor: Tensor) -> Tensor:
    """Return BYTES that the server marks as text as `str`."""
    if not tensor.dtype.hasobject or output.parameters[CONTENT_TYPE].string_param != TEXT:
        return tensor
    return objects([item.decode() for item in tensor.ravel()], tensor.shape)


def model_metadata(response: pb.ModelMetadataResponse) -> ModelMetadata:
    """Parse a model's metadata."""
    return ModelMetadata(
        response.name,
        tuple(response.versions),
        response.platform,
        tuple(TensorMetadata(spec.name, spec.datatype, tuple(spec.shape)) for spec in response.inputs),
        tuple(TensorMetadata(spec.name, spec.datatype, tuple(spec.shape)) for spec in response.outputs),
        dict(response.properties),
    )
