"""Between the protocol's messages and the domain's tensors, in both directions.

Requests come from anywhere, so every check stands before the work it saves: counts, names, datatype, rank, dimensions,
exact byte count, and only then the elements.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from serving.domain.errors import InvalidRequest, quoted
from serving.domain.tensors import Datatype, Signature, Tensor, Tensors, TensorSpec, row_bytes
from serving.online.grpc.proto import open_inference_pb2 as pb
from serving.online.inference import Inference, ServedModel
from serving.online.open_inference import (
    CONTENT_TYPE,
    MAX_MESSAGE_BYTES,
    OVERHEAD_BYTES,
    TEXT,
    check_counts,
    check_parameters,
    fallback_flags,
    from_raw,
    objects,
    platform,
    properties,
    to_raw,
)

_Message = TypeVar("_Message", bound=Message)

_CONTENTS: Mapping[Datatype, str] = {
    Datatype.BOOL: "bool_contents",
    Datatype.INT8: "int_contents",
    Datatype.INT16: "int_contents",
    Datatype.INT32: "int_contents",
    Datatype.INT64: "int64_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.UINT16: "uint_contents",
    Datatype.UINT32: "uint_contents",
    Datatype.UINT64: "uint64_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
    Datatype.BYTES: "bytes_contents",
    Datatype.TEXT: "bytes_contents",
}
"""Where the protocol puts typed contents; FP16 has no field and travels raw only."""


@dataclass(frozen=True)
class Decoded:
    """Hold a decoded request; `raw` selects raw contents, in the request and in the answer."""

    inputs: Tensors
    outputs: tuple[str, ...]
    raw: bool


def parse(kind: type[_Message], body: bytes) -> _Message:
    """Parse a message.

    :raises InvalidRequest: the bytes are malformed
    """
    try:
        return kind.FromString(body)
    except DecodeError:
        raise InvalidRequest(f"the request is not a {kind.DESCRIPTOR.full_name} message.") from None


def max_request_bytes(signature: Signature) -> int:
    """Return the size of the largest request that the signature allows, raw or typed."""
    elements = sum(signature.max_rows * row_bytes(spec) for spec in signature.inputs)
    return min(elements + OVERHEAD_BYTES, MAX_MESSAGE_BYTES)


def decode(request: pb.ModelInferRequest, signature: Signature) -> Decoded:
    """Decode a request into tensors whose name, datatype, shape and size match the signature."""
    raws = request.raw_input_contents
    _check_counts(request, signature)
    inputs: dict[str, Tensor] = {}
    for index, message in enumerate(request.inputs):
        spec = signature.input(message.name)
        if spec.name in inputs:
            raise InvalidRequest(f"input {quoted(spec.name)}: is sent twice.")
        rows = spec.check_declared(message.datatype, message.shape, signature.max_rows)
        if raws:
            if message.HasField("contents"):
                raise InvalidRequest(f"input {quoted(spec.name)}: has raw and typed contents; send one of them.")
            inputs[spec.name] = from_raw(spec, rows, raws[index])
        else:
            inputs[spec.name] = _from_typed(spec, (rows, *spec.row_shape), message.contents)
    return Decoded(inputs, tuple(output.name for output in request.outputs), bool(raws))


def _check_counts(request: pb.ModelInferRequest, signature: Signature) -> None:
    check_counts(request.id, len(request.inputs), len(request.outputs), signature)
    if request.raw_input_contents and len(request.raw_input_contents) != len(request.inputs):
        raise InvalidRequest(
            f"raw_input_contents: has {len(request.raw_input_contents)} entries for {len(request.inputs)} inputs, "
            "must have one for each."
        )
    parameters = len(request.parameters)
    for tensor in request.inputs:
        parameters += len(tensor.parameters)
    for output in request.outputs:
        parameters += len(output.parameters)
    check_parameters(parameters)


def _from_typed(spec: TensorSpec, shape: tuple[int, ...], contents: pb.InferTensorContents) -> Tensor:
    field = _CONTENTS.get(spec.datatype)
    if field is None:
        raise InvalidRequest(f"input {quoted(spec.name)}: {spec.datatype} must be sent in raw_input_contents.")
    for descriptor, _ in contents.ListFields():
        if descriptor.name != field:
            raise InvalidRequest(
                f"input {quoted(spec.name)}: {spec.datatype.wire} must be sent in {field}, not in {descriptor.name}."
            )
    values: Sequence[Any] = getattr(contents, field)
    expected = shape[0] * spec.row_elements
    if len(values) != expected:
        raise InvalidRequest(f"input {quoted(spec.name)}: has {len(values)} elements, {list(shape)} has {expected}.")
    if spec.holds_bytes:
        return objects(list(values), shape)
    dtype = spec.datatype.dtype
    if dtype.kind not in "iu" or dtype.itemsize >= 4:  # the protocol's field has the range of the type itself
        return np.array(values, dtype).reshape(shape)
    wide, limits = np.array(values, np.int64), np.iinfo(dtype)
    if wide.min() < limits.min or wide.max() > limits.max:
        raise InvalidRequest(f"input {quoted(spec.name)}: an element is outside {limits.min} to {limits.max}.")
    return wide.astype(dtype).reshape(shape)


def encode(inference: Inference, *, raw: bool, request_id: str) -> pb.ModelInferResponse:
    """Encode an answer with its model version, digest and fallback flags."""
    reference, known = inference.model.reference, inference.model.signature.outputs_by_name
    response = pb.ModelInferResponse(id=request_id)
    response.MergeFrom(_from_model(reference.model, reference.version, reference.digest))
    for key, flags in fallback_flags(inference).items():
        response.parameters[key].string_param = flags
    for name, tensor in inference.outputs.items():
        spec = known[name]
        message = response.outputs.add(name=name, datatype=spec.wire, shape=tensor.shape)
        if spec.datatype is Datatype.TEXT:
            message.parameters[CONTENT_TYPE].string_param = TEXT
        if raw or (field := _CONTENTS.get(spec.datatype)) is None:
            response.raw_output_contents.append(to_raw(tensor))
        else:
            getattr(message.contents, field).extend(tensor.ravel().tolist())
    return response


@functools.lru_cache(maxsize=1)
def _from_model(name: str, version: str, digest: str) -> pb.ModelInferResponse:
    """Return the part of each answer that depends on the model alone."""
    response = pb.ModelInferResponse(model_name=name, model_version=version)
    response.parameters["artifact_digest"].string_param = digest
    return response


def metadata(model: ServedModel) -> pb.ModelMetadataResponse:
    """Return the model's metadata."""
    manifest = model.manifest
    response = pb.ModelMetadataResponse(
        name=model.reference.model,
        versions=[model.reference.version],
        platform=platform(manifest.format),
    )
    for side, specs in ((response.inputs, model.signature.inputs), (response.outputs, model.signature.outputs)):
        for spec in specs:
            side.add(name=spec.name, datatype=spec.datatype.wire, shape=spec.shape)
    response.properties.update(properties(model))
    return response
