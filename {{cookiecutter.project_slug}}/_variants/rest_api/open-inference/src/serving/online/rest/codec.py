"""Between the protocol's JSON, with or without binary tensors behind it, and the domain's tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from serving.domain.errors import InvalidRequest, quoted
from serving.domain.tensors import Datatype, Signature, Tensor, Tensors, TensorSpec
from serving.online.inference import Inference, ServedModel
from serving.online.open_inference import (
    CONTENT_TYPE,
    TEXT,
    check_counts,
    check_parameters,
    fallback_flags,
    from_raw,
    platform,
    properties,
    to_raw,
)
from serving.online.rest.elements import from_json, to_json
from serving.online.rest.limits import Limits

_Model = TypeVar("_Model", bound=BaseModel)
_Parameters = dict[str, Any]

_SIZE = "binary_data_size"
_BINARY, _ALL_BINARY = "binary_data", "binary_data_output"
_OURS = {_SIZE, _BINARY, _ALL_BINARY}


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    parameters: _Parameters | None = None


class _Input(_Part):
    name: str = ""
    datatype: str = ""
    shape: list[int] = []
    data: Any = None


class _Output(_Part):
    name: str = ""


class _Request(_Part):
    id: str | None = None
    inputs: list[Any] = []
    outputs: list[Any] | None = None


@dataclass(frozen=True)
class Decoded:
    """Hold a decoded request; `binary` says which outputs are asked for as binary data, None means each."""

    inputs: Tensors
    outputs: tuple[str, ...]
    binary: Mapping[str, bool]
    all_binary: bool
    id: str


def decode(body: bytes, json_length: int | None, signature: Signature, limits: Limits) -> Decoded:
    """Decode a request into tensors whose name, datatype, shape and size match the signature.

    `json_length` is where the binary tensors begin; None if there are none.
    """
    head = body if json_length is None else body[:json_length]
    blobs = b"" if json_length is None else body[json_length:]
    limits.check(head)
    request = _valid(_Request, _parse(head), "")
    outputs = request.outputs or []
    check_counts(request.id or "", len(request.inputs), len(outputs), signature)
    tensors = [_valid(_Input, item, f"inputs.{number}") for number, item in enumerate(request.inputs)]
    wanted = [_valid(_Output, item, f"outputs.{number}") for number, item in enumerate(outputs)]
    check_parameters(sum(len((part.parameters or {}).keys() - _OURS) for part in (request, *tensors, *wanted)))
    inputs: dict[str, Tensor] = {}
    offset = 0
    for sent in tensors:
        spec = signature.input(sent.name)
        if spec.name in inputs:
            raise InvalidRequest(f"input {quoted(spec.name)}: is sent twice.")
        rows = spec.check_declared(sent.datatype, sent.shape, signature.max_rows)
        size = (sent.parameters or {}).get(_SIZE)
        if size is None:
            inputs[spec.name] = from_json(spec, rows, sent.data)
        else:
            end = offset + _size(spec, size, sent.data)
            if end > len(blobs):
                raise InvalidRequest(f"input {quoted(spec.name)}: its binary data end beyond the body.")
            inputs[spec.name] = from_raw(spec, rows, blobs[offset:end])
            offset = end
    if offset != len(blobs):
        raise InvalidRequest(f"binary data: the body has {len(blobs)} bytes of them, the inputs have {offset}.")
    return Decoded(
        inputs,
        tuple(output.name for output in wanted),
        {output.name: _flag(output, _BINARY) for output in wanted if _BINARY in (output.parameters or ())},
        _flag(request, _ALL_BINARY),
        request.id or "",
    )


def _parse(head: bytes) -> Any:
    try:
        return orjson.loads(head)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"the request is not JSON: {error.msg}, {place}.") from None


def _valid(kind: type[_Model], value: Any, place: str) -> _Model:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, (*([place] if place else ()), *fault["loc"]))) or "the request"
        what = "Input should be an object" if fault["type"] == "model_type" else str(fault["msg"])
        raise InvalidRequest(f"{where}: {what[0].lower()}{what[1:]}.") from None


def _size(spec: TensorSpec, size: Any, data: Any) -> int:
    if data is not None:
        raise InvalidRequest(f"input {quoted(spec.name)}: has raw and typed contents; send one of them.")
    if type(size) is not int or size < 0:
        raise InvalidRequest(f"input {quoted(spec.name)}: {_SIZE} must be a number of bytes.")
    return size


def _flag(part: _Part, name: str) -> bool:
    value = (part.parameters or {}).get(name, False)
    if type(value) is not bool:
        raise InvalidRequest(f"parameters: {name} must be true or false.")
    return value


def encode(inference: Inference, decoded: Decoded, request_id: str) -> tuple[bytes, int | None]:
    """Encode an answer; return it, and where the binary tensors begin, None if there are none."""
    model = inference.model
    known = model.signature.outputs_by_name
    blobs: list[bytes] = []
    outputs: list[dict[str, Any]] = []
    for name, tensor in inference.outputs.items():
        spec = known[name]
        output: dict[str, Any] = {"name": name, "datatype": spec.wire, "shape": tensor.shape}
        parameters: _Parameters = {CONTENT_TYPE: TEXT} if spec.datatype is Datatype.TEXT else {}
        if decoded.binary.get(name, decoded.all_binary):
            blobs.append(to_raw(tensor))
            parameters[_SIZE] = len(blobs[-1])
        else:
            output["data"] = to_json(spec, tensor)
        if parameters:
            output["parameters"] = parameters
        outputs.append(output)
    answer: dict[str, Any] = {"model_name": model.reference.model, "model_version": model.reference.version}
    if request_id:
        answer["id"] = request_id
    answer["parameters"] = {"artifact_digest": model.reference.digest, **fallback_flags(inference)}
    answer["outputs"] = outputs
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([head, *blobs]), len(head)) if blobs else (head, None)


def metadata(model: ServedModel) -> dict[str, Any]:
    """Return the model's metadata."""
    sides = {"inputs": model.signature.inputs, "outputs": model.signature.outputs}
    return {
        "name": model.reference.model,
        "versions": [model.reference.version],
        "platform": platform(model.manifest.format),
        **{
            side: [{"name": spec.name, "datatype": spec.wire, "shape": spec.shape} for spec in specs]
            for side, specs in sides.items()
        },
        "properties": properties(model),
    }
