"""The OpenAPI 3.1 document of one model: its own names, types, units and examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving import TEMPLATE_VERSION
from serving.domain.tensors import Datatype, Tensors, TensorSpec
from serving.online.inference import ServedModel
from serving.online.rest.elements import to_json
from serving.online.rest.status import PROBLEM_JSON

Json = dict[str, Any]

_JSON = "application/json"
_REFUSALS = {
    "400": "The request breaks the signature; `detail` names the field and the way out.",
    "404": "Another model or version is served here.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large; split the batch.",
    "415": "The body is encoded; send it as it is.",
    "500": "The model failed; the server's log has the detail under `request_id`.",
    "503": "Nothing is served, or too much waits; try again after `Retry-After` seconds, if it is there.",
    "504": "The deadline passed.",
}


def document(model: ServedModel, *, tokens: bool) -> Json:
    """Return the document; `tokens` says whether callers need one."""
    name, version = model.reference.model, model.reference.version
    one = f"/v2/models/{name}"
    infer = _infer(model)
    paths: Json = {
        "/v2": _get("server_metadata", "Describe the server.", "Server"),
        "/v2/health/live": _get("server_live", "Say whether the server runs.", "Live"),
        "/v2/health/ready": _get("server_ready", "Say whether the server takes calls.", "Ready", unready=True),
    }
    for path, suffix in ((one, ""), (f"{one}/versions/{version}", "_of_version")):
        paths[path] = _get(f"model_metadata{suffix}", "Describe the model.", "Model")
        paths[f"{path}/ready"] = _get(f"model_ready{suffix}", "Say whether the model is served.", "Ready", unready=True)
        paths[f"{path}/infer"] = {"post": {**infer, "operationId": f"model_infer{suffix}"}}
    found: Json = {
        "openapi": "3.1.0",
        "info": {"title": name, "version": version, "description": model.lineage.description or name},
        "paths": paths,
        "components": {"schemas": _schemas(model)},
    }
    if tokens:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    return found


def _get(operation: str, summary: str, schema: str, *, unready: bool = False) -> Json:
    responses = {"200": _answer("The answer.", schema)}
    if unready:
        responses["503"] = _answer("It does not.", schema)
    return {"get": {"operationId": operation, "summary": summary, "responses": responses}}


def _answer(description: str, schema: str, kind: str = _JSON) -> Json:
    return {"description": description, "content": {kind: {"schema": _ref(schema)}}}


def _ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}


def _infer(model: ServedModel) -> Json:
    signature, examples = model.signature, model.examples
    inputs = [
        {
            "name": spec.name,
            "datatype": spec.wire,
            "shape": list(examples[spec.name].shape),
            "data": _data(spec, examples),
        }
        for spec in signature.inputs
        if spec.name in examples
    ]
    content: Json = {"schema": _ref("Request")}
    if len(inputs) == len(signature.inputs):
        content["examples"] = {"rows": {"summary": "Rows that training kept", "value": {"inputs": inputs}}}
    return {
        "summary": f"Predict with {model.reference.model}.",
        "description": f"At most {signature.max_rows} rows in a call.",
        "parameters": [
            {
                "name": "X-Request-Timeout",
                "in": "header",
                "description": "Seconds until the answer is of no use.",
                "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 3600},
            },
            {
                "name": "X-Request-ID",
                "in": "header",
                "description": "An id for the logs; it comes back.",
                "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
            },
        ],
        "requestBody": {"required": True, "content": {_JSON: content}},
        "responses": {
            "200": _answer("The prediction.", "Answer"),
            **{code: _answer(text, "Problem", PROBLEM_JSON) for code, text in _REFUSALS.items()},
        },
    }


def _data(spec: TensorSpec, examples: Tensors) -> list[Any]:
    data = to_json(spec, examples[spec.name])
    return data.tolist() if isinstance(data, np.ndarray) else list(data)


def _schemas(model: ServedModel) -> Json:
    signature = model.signature
    tensor = {
        "name": {"type": "string"},
        "datatype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
    }
    return {
        "Live": _object({"live": {"type": "boolean"}}),
        "Ready": _object({"ready": {"type": "boolean"}, "name": {"type": "string"}}, "ready"),
        "Server": _object(
            {
                "name": {"type": "string"},
                "version": {"type": "string", "examples": [TEMPLATE_VERSION]},
                "extensions": {"type": "array", "items": {"type": "string"}},
            }
        ),
        "Model": _object(
            {
                "name": {"const": model.reference.model},
                "versions": {"type": "array", "items": {"type": "string"}},
                "platform": {"type": "string"},
                "inputs": {"type": "array", "items": _object(tensor)},
                "outputs": {"type": "array", "items": _object(tensor)},
                "properties": {"type": "object", "additionalProperties": {"type": "string"}},
            }
        ),
        "Request": _object(
            {
                "id": {"type": "string", "maxLength": 256},
                "inputs": _each(signature.inputs),
                "outputs": {
                    "type": "array",
                    "description": "Which outputs to answer with; all if it is left out.",
                    "maxItems": len(signature.outputs),
                    "uniqueItems": True,
                    "items": _object({"name": {"enum": [spec.name for spec in signature.outputs]}}),
                },
            },
            "inputs",
        ),
        "Answer": _object(
            {
                "model_name": {"const": model.reference.model},
                "model_version": {"const": model.reference.version},
                "id": {"type": "string"},
                "parameters": {"type": "object"},
                "outputs": {"type": "array", "items": {"anyOf": [_tensor(spec) for spec in signature.outputs]}},
            },
            *("model_name", "model_version", "parameters", "outputs"),
        ),
        "Problem": _object(
            {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "error": {"type": "string"},
                "request_id": {"type": "string"},
            },
            *("type", "title", "status", "detail", "error"),
        ),
    }


def _each(specs: Sequence[TensorSpec]) -> Json:
    """Return the schema of a list with one tensor of each declaration, in their order."""
    return {
        "type": "array",
        "prefixItems": [_tensor(spec) for spec in specs],
        "minItems": len(specs),
        "maxItems": len(specs),
        "items": {"anyOf": [_tensor(spec) for spec in specs]},
    }


def _tensor(spec: TensorSpec) -> Json:
    unit = f" Unit: {spec.unit}." if spec.unit else ""
    shape: Json = {"type": "array", "prefixItems": [{"type": "integer", "minimum": 1}]}
    shape["prefixItems"] += [{"const": size} for size in spec.row_shape]
    shape |= {"minItems": len(spec.shape), "maxItems": len(spec.shape), "items": {"type": "integer"}}
    tensor = _object(
        {
            "name": {"const": spec.name},
            "datatype": {"const": spec.wire},
            "shape": {**shape, "description": f"{spec.shape_text}"},
            "data": {"type": "array", "items": _element(spec), "minItems": spec.row_elements},
        }
    )
    described = f"{spec.description}{'.' if spec.description else ''}{unit}".strip()
    return {"title": spec.name, **({"description": described} if described else {}), **tensor}


def _element(spec: TensorSpec) -> Json:
    if spec.holds_bytes:
        return {"type": "string", "maxLength": spec.max_bytes}
    if spec.datatype is Datatype.BOOL:
        return {"type": "boolean"}
    if spec.is_float:
        limit = float(np.finfo(spec.dtype).max)
        number: Json = {"type": "number", "minimum": -limit, "maximum": limit}
        return {"anyOf": [number, {"type": "null"}]} if spec.allow_nan else number
    limits = np.iinfo(spec.dtype)
    return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}


def _object(properties: Json, *required: str) -> Json:
    return {"type": "object", "properties": properties, "required": list(required or properties)}
