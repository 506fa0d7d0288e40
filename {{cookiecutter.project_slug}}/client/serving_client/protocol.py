"""What the blocking and the asyncio client share: requests built, answers read, no call made."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ._proto import open_inference_pb2 as pb
from .channel import INFERENCE
from .errors import InvalidRequest, ServerFault
from .model import ModelMetadata, Prediction, Tensor, TensorMetadata
from .tensors import DTYPES, from_raw, to_raw, to_tensor

INFER = f"/{INFERENCE}/ModelInfer"
METADATA = f"/{INFERENCE}/ModelMetadata"

Inputs = Mapping[str, npt.ArrayLike]


@functools.cache
def default_model() -> str:
    """Return the name of the model that this client was made for."""
    described = json.loads(Path(__file__).with_name("service.json").read_text(encoding="utf-8"))
    return str(described["model"])


class Deadline:
    """Share one timeout between the steps of a call."""

    def __init__(self, timeout: float) -> None:
        if not timeout > 0:
            raise InvalidRequest(f"timeout: {timeout!r} is no time to answer in; give seconds, for example 1.0.")
        self._end = time.monotonic() + timeout

    def left(self) -> float:
        """Return the seconds that are left; a call with none left fails by itself."""
        return max(self._end - time.monotonic(), 0.001)


def infer_request(
    metadata: ModelMetadata, inputs: Inputs, outputs: Sequence[str], version: str, request_id: str
) -> pb.ModelInferRequest:
    """Build a request with raw contents.

    :raises InvalidRequest: an input is missing, unknown, or does not fit
    """
    known = {spec.name: spec for spec in metadata.inputs}
    unknown = [name for name in inputs if name not in known]
    if unknown:
        raise InvalidRequest(f"input {unknown[0]!a} is unknown; the inputs are {', '.join(known)}.")
    missing = [name for name in known if name not in inputs]
    if missing:
        raise InvalidRequest(f"input {missing[0]!a} is missing; the inputs are {', '.join(known)}.")
    request = pb.ModelInferRequest(model_name=metadata.name, model_version=version, id=request_id)
    for name, spec in known.items():
        tensor = to_tensor(spec, inputs[name])
        request.inputs.add(name=name, datatype=spec.datatype, shape=tensor.shape)
        request.raw_input_contents.append(to_raw(tensor))
    for name in outputs:
        request.outputs.add(name=name)
    return request


def prediction(response: pb.ModelInferResponse, request_id: str) -> Prediction:
    """Read an answer.

    :raises ServerFault: it does not keep to the protocol
    """
    raws = response.raw_output_contents
    try:
        outputs = {
            output.name: from_raw(output.datatype, output.shape, raws[index]) if raws else _from_typed(output)
            for index, output in enumerate(response.outputs)
        }
        flags = json.loads(response.parameters["defaulted_features"].string_param or "{}")
        defaulted = {str(name): tuple(int(row) for row in rows) for name, rows in flags.items()}
    except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise ServerFault(f"the answer can't be read ({error}).", request_id=request_id) from None
    digest = response.parameters["artifact_digest"].string_param
    return Prediction(outputs, response.model_name, response.model_version, digest, request_id, defaulted)


def _from_typed(output: pb.ModelInferResponse.InferOutputTensor) -> Tensor:
    values = [item for _, items in output.contents.ListFields() for item in items]
    tensor = np.empty(len(values), dtype=DTYPES[output.datatype])
    tensor[:] = values
    return tensor.reshape(output.shape)


def model_metadata(response: pb.ModelMetadataResponse) -> ModelMetadata:
    """Read a model's description."""
    return ModelMetadata(
        response.name,
        tuple(response.versions),
        response.platform,
        tuple(TensorMetadata(spec.name, spec.datatype, tuple(spec.shape)) for spec in response.inputs),
        tuple(TensorMetadata(spec.name, spec.datatype, tuple(spec.shape)) for spec in response.outputs),
        dict(response.properties),
    )
