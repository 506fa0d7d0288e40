"""Between the protocol's messages and the domain's tensors, in both directions.

Requests come from anywhere, so every check stands before the work it saves: counts, names, datatype, rank, dimensions,
exact byte count, and only then the elements.
"""

from __future__ import annotations

import functools
import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from serving.domain.errors import InvalidRequest, quoted
from serving.domain.tensors import Datatype, Signature, Tensor, Tensors, TensorSpec, names, row_bytes
from serving.online.grpc.proto import open_inference_pb2 as pb
from serving.online.inference import Inference, ServedModel

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NAME_RULE = "1 to 128 letters, digits, dots, dashes or underscores, the first a letter or digit"
_MAX_PARAMETERS = 32
_MAX_ID = 256
_OVERHEAD_BYTES = 64 * 1024
_MAX_MESSAGE_BYTES = (1 << 31) - 1
_LENGTH = struct.Struct("<I")

_CONTENT_TYPE, _TEXT = "content_type", "str"
"""How MLServer marks BYTES that are text: its clients decode such outputs."""

_Message = TypeVar("_Message", bound=Message)

_PLATFORMS = {"onnx": "onnxruntime_onnx"}
"""Formats with another name in Triton, whose clients read it."""

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


def check_name(name: str, version: str) -> None:
    """Refuse invalid names before they reach a log or a path."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"model_name {quoted(name)} must be {_NAME_RULE}.")
    if version and not _NAME.fullmatch(version):
        raise InvalidRequest(f"model_version {quoted(version)} must be {_NAME_RULE}.")


def max_request_bytes(signature: Signature) -> int:
    """Return the size of the largest request that the signature allows, raw or typed."""
    elements = sum(signature.max_rows * row_bytes(spec) for spec in signature.inputs)
    return min(elements + _OVERHEAD_BYTES, _MAX_MESSAGE_BYTES)


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
            inputs[spec.name] = _from_raw(spec, rows, raws[index])
        else:
            inputs[spec.name] = _from_typed(spec, (rows, *spec.row_shape), message.contents)
    return Decoded(inputs, tuple(output.name for output in request.outputs), bool(raws))


def _check_counts(request: pb.ModelInferRequest, signature: Signature) -> None:
    if len(request.id) > _MAX_ID:
        raise InvalidRequest(f"id {quoted(request.id)}: has {len(request.id)} characters, must have at most {_MAX_ID}.")
    if not 1 <= len(request.inputs) <= len(signature.inputs):
        raise InvalidRequest(
            f"inputs: {len(request.inputs)} given, {len(signature.inputs)} expected: {names(signature.inputs)}."
        )
    if len(request.outputs) > len(signature.outputs):
        raise InvalidRequest(
            f"outputs: {len(request.outputs)} requested, the model has {len(signature.outputs)}: "
            f"{names(signature.outputs)}."
        )
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
    if parameters > _MAX_PARAMETERS:
        raise InvalidRequest(f"parameters: {parameters} are sent, at most {_MAX_PARAMETERS} are allowed.")


def _from_raw(spec: TensorSpec, rows: int, raw: bytes) -> Tensor:
    if spec.holds_bytes:
        return _objects(_split(spec, raw, rows * spec.row_elements), (rows, *spec.row_shape))
    dtype = spec.dtype
    expected = rows * spec.row_elements * dtype.itemsize
    if len(raw) != expected:
        raise InvalidRequest(
            f"input {quoted(spec.name)}: raw contents have {len(raw)} bytes, {[rows, *spec.row_shape]} of "
            f"{spec.datatype} has {expected}."
        )
    if spec.datatype is Datatype.BOOL and np.frombuffer(raw, np.uint8).max(initial=0) > 1:
        raise InvalidRequest(f"input {quoted(spec.name)}: a BOOL must be the byte 0 or 1.")
    flat = np.frombuffer(raw, dtype)
    return flat.reshape(rows, *spec.row_shape) if spec.row_shape else flat


def _split(spec: TensorSpec, raw: bytes, count: int) -> list[bytes]:
    """Split length-prefixed BYTES elements."""
    items: list[bytes] = []
    offset = 0
    while offset < len(raw) and len(items) < count:
        end = offset + _LENGTH.size
        if end <= len(raw):
            end += _LENGTH.unpack_from(raw, offset)[0]
        if end > len(raw):
            raise InvalidRequest(f"input {quoted(spec.name)}: element {len(items)} ends beyond the raw contents.")
        items.append(raw[offset + _LENGTH.size : end])
        offset = end
    if len(items) != count or offset != len(raw):
        raise InvalidRequest(f"input {quoted(spec.name)}: raw contents do not hold exactly {count} elements.")
    return items


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
        return _objects(list(values), shape)
    dtype = spec.datatype.dtype
    if dtype.kind not in "iu" or dtype.itemsize >= 4:  # the protocol's field has the range of the type itself
        return np.array(values, dtype).reshape(shape)
    wide, limits = np.array(values, np.int64), np.iinfo(dtype)
    if wide.min() < limits.min or wide.max() > limits.max:
        raise InvalidRequest(f"input {quoted(spec.name)}: an element is outside {limits.min} to {limits.max}.")
    return wide.astype(dtype).reshape(shape)


def _objects(items: Sequence[bytes], shape: tuple[int, ...]) -> Tensor:
    tensor = np.empty(len(items), dtype=object)
    tensor[:] = items
    return tensor.reshape(shape)


def encode(inference: Inference, *, raw: bool, request_id: str) -> pb.ModelInferResponse:
    """Encode an answer with its model version, digest and fallback flags."""
    reference, known = inference.model.reference, inference.model.signature.outputs_by_name
    response = pb.ModelInferResponse(id=request_id)
    response.MergeFrom(_from_model(reference.model, reference.version, reference.digest))
    for key, flagged in (("defaulted_features", inference.defaulted), ("last_known_features", inference.last_known)):
        if flagged:
            flags = {name: list(rows) for name, rows in flagged.items()}
            response.parameters[key].string_param = json.dumps(flags, separators=(",", ":"))
    for name, tensor in inference.outputs.items():
        spec = known[name]
        message = response.outputs.add(name=name, datatype=spec.wire, shape=tensor.shape)
        if spec.datatype is Datatype.TEXT:
            message.parameters[_CONTENT_TYPE].string_param = _TEXT
        if raw or (field := _CONTENTS.get(spec.datatype)) is None:
            response.raw_output_contents.append(_to_raw(tensor))
        else:
            getattr(message.contents, field).extend(tensor.ravel().tolist())
    return response


@functools.lru_cache(maxsize=1)
def _from_model(name: str, version: str, digest: str) -> pb.ModelInferResponse:
    """Return the part of each answer that depends on the model alone."""
    response = pb.ModelInferResponse(model_name=name, model_version=version)
    response.parameters["artifact_digest"].string_param = digest
    return response


def _to_raw(tensor: Tensor) -> bytes:
    if tensor.dtype == object:
        return b"".join(_LENGTH.pack(len(item)) + item for item in tensor.ravel())
    return tensor.tobytes()


def platform(artifact_format: str) -> str:
    """Return what Triton's clients call the format of an artifact."""
    return _PLATFORMS.get(artifact_format, artifact_format)


def metadata(model: ServedModel) -> pb.ModelMetadataResponse:
    """Return the model's metadata."""
    manifest = model.manifest
    response = pb.ModelMetadataResponse(
        name=model.reference.model,
        versions=[model.reference.version],
        platform=platform(manifest.format),
    )
    properties = {
        "description": model.lineage.description,
        "reference": str(model.reference),
        "artifact_digest": model.reference.digest,
        "git_commit": model.lineage.git_commit,
        "data_digest": model.lineage.data_digest,
        "max_rows": str(model.signature.max_rows),
    }
    for side, specs in ((response.inputs, model.signature.inputs), (response.outputs, model.signature.outputs)):
        for spec in specs:
            side.add(name=spec.name, datatype=spec.datatype.wire, shape=spec.shape)
            if spec.datatype is Datatype.TEXT:
                properties[f"{spec.name}.{_CONTENT_TYPE}"] = _TEXT
            described = {f"{spec.name}.unit": spec.unit, f"{spec.name}.description": spec.description}
            properties |= {key: value for key, value in described.items() if value}
    for key, value in properties.items():
        if value:
            response.properties[key] = value
    return response
