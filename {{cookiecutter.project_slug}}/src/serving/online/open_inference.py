"""The rules of the Open Inference Protocol that all of its transports share: names, counts, binary tensors."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence

import numpy as np

from serving.domain.errors import InvalidRequest, quoted
from serving.domain.tensors import Datatype, Signature, Tensor, TensorSpec, names
from serving.online.inference import Inference, ServedModel

OVERHEAD_BYTES = 64 * 1024
"""What a request may have besides its elements."""
MAX_MESSAGE_BYTES = (1 << 31) - 1

CONTENT_TYPE, TEXT = "content_type", "str"
"""How MLServer marks BYTES that are text: its clients decode such outputs."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NAME_RULE = "1 to 128 letters, digits, dots, dashes or underscores, the first a letter or digit"
_MAX_PARAMETERS = 32
_MAX_ID = 256
_LENGTH = struct.Struct("<I")

_PLATFORMS = {"onnx": "onnxruntime_onnx"}
"""Formats with another name in Triton, whose clients read it."""


def check_name(name: str, version: str) -> None:
    """Refuse invalid names before they reach a log or a path."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"model_name {quoted(name)} must be {_NAME_RULE}.")
    if version and not _NAME.fullmatch(version):
        raise InvalidRequest(f"model_version {quoted(version)} must be {_NAME_RULE}.")


def check_counts(request_id: str, inputs: int, outputs: int, signature: Signature) -> None:
    """Refuse an id that is too long, and numbers of inputs or outputs that the signature doesn't have."""
    if len(request_id) > _MAX_ID:
        raise InvalidRequest(f"id {quoted(request_id)}: has {len(request_id)} characters, must have at most {_MAX_ID}.")
    if not 1 <= inputs <= len(signature.inputs):
        raise InvalidRequest(f"inputs: {inputs} given, {len(signature.inputs)} expected: {names(signature.inputs)}.")
    if outputs > len(signature.outputs):
        raise InvalidRequest(
            f"outputs: {outputs} requested, the model has {len(signature.outputs)}: {names(signature.outputs)}."
        )


def check_parameters(count: int) -> None:
    """Refuse more parameters, of the request and its tensors together, than anybody needs."""
    if count > _MAX_PARAMETERS:
        raise InvalidRequest(f"parameters: {count} are sent, at most {_MAX_PARAMETERS} are allowed.")


def from_raw(spec: TensorSpec, rows: int, raw: bytes) -> Tensor:
    """Return the tensor that binary contents hold."""
    if spec.holds_bytes:
        return objects(_split(spec, raw, rows * spec.row_elements), (rows, *spec.row_shape))
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


def objects(items: Sequence[bytes], shape: tuple[int, ...]) -> Tensor:
    """Return a tensor of `bytes`."""
    tensor = np.empty(len(items), dtype=object)
    tensor[:] = items
    return tensor.reshape(shape)


def to_raw(tensor: Tensor) -> bytes:
    """Return the binary contents of a tensor."""
    if tensor.dtype == object:
        return b"".join(_LENGTH.pack(len(item)) + item for item in tensor.ravel())
    return tensor.tobytes()


def fallback_flags(inference: Inference) -> Mapping[str, str]:
    """Return the parameters of an answer that say which rows used a fallback."""
    flags: dict[str, str] = {}
    for key, flagged in (("defaulted_features", inference.defaulted), ("last_known_features", inference.last_known)):
        if flagged:
            flags[key] = json.dumps({name: list(rows) for name, rows in flagged.items()}, separators=(",", ":"))
    return flags


def platform(artifact_format: str) -> str:
    """Return what Triton's clients call the format of an artifact."""
    return _PLATFORMS.get(artifact_format, artifact_format)


def properties(model: ServedModel) -> Mapping[str, str]:
    """Return what a model's metadata says besides names, types and shapes."""
    found = {
        "description": model.lineage.description,
        "reference": str(model.reference),
        "artifact_digest": model.reference.digest,
        "git_commit": model.lineage.git_commit,
        "data_digest": model.lineage.data_digest,
        "max_rows": str(model.signature.max_rows),
    }
    for spec in (*model.signature.inputs, *model.signature.outputs):
        found[f"{spec.name}.{CONTENT_TYPE}"] = TEXT if spec.datatype is Datatype.TEXT else ""
        found[f"{spec.name}.unit"] = spec.unit
        found[f"{spec.name}.description"] = spec.description
    return {key: value for key, value in found.items() if value}
