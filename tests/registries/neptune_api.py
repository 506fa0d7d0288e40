"""The part of Neptune's HTTP API that its client asks for when it works with models, as two Swagger documents.

The client finds each path by its operationId in what the server says of itself. So paths are ours, names are theirs.
Written from what the client, version 1.14, sends and reads; never compared with a real server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BACKEND, LEADERBOARD = "backend", "leaderboard"

_VALUES = {"float": "number", "int": "integer", "bool": "boolean", "string": "string", "datetime": "string"}
MODELS: dict[str, dict[str, str]] = {
    "ClientConfig": {
        "apiUrl": "string",
        "applicationUrl": "string",
        "pyLibVersions": "PyLibVersions",
        "multiPartUpload": "MultiPartUpload",
    },
    "PyLibVersions": {"minCompatibleVersion": "string"},
    "MultiPartUpload": {
        "enabled": "boolean",
        "minChunkSize": "integer",
        "maxChunkSize": "integer",
        "maxChunkCount": "integer",
        "maxSinglePartSize": "integer",
    },
    "AuthTokens": {"accessToken": "string", "refreshToken": "string"},
    "Project": {
        "id": "string",
        "name": "string",
        "organizationName": "string",
        "projectKey": "string",
        "version": "integer",
    },
    "Projects": {"entries": "[Project]"},
    "Organization": {"id": "string", "name": "string"},
    "Experiment": {
        "id": "string",
        "type": "string",
        "shortId": "string",
        "organizationName": "string",
        "projectName": "string",
        "trashed": "boolean",
    },
    "Attributes": {"attributes": "[Attribute]"},
    "Attribute": {"name": "string", "type": "string"}
    | {f"{kind}Properties": f"{kind.capitalize()}Attribute" for kind in (*_VALUES, "file")},
    "FileAttribute": {"name": "string", "ext": "string", "size": "integer"},
    "OperationError": {"errorDescription": "string"},
    "Upload": {"uploadId": "string", "errors": "[OperationError]"},
} | {f"{kind.capitalize()}Attribute": {"value": value} for kind, value in _VALUES.items()}


@dataclass(frozen=True)
class Operation:
    """One call: where it goes, what it carries, what comes back."""

    service: str
    method: str
    parameters: dict[str, str] = field(default_factory=dict)
    """By name: `header`, `body`, `query`, or `queries` for several of one name."""
    answer: str = ""

    def path(self, name: str) -> str:
        return f"/api/{self.service}/{name}"


_TOKEN = {"X-Neptune-Api-Token": "header"}
_ONE = {"experimentId": "query", "attribute": "query"}
_UPLOAD = {"experimentIdentifier": "query", "attribute": "query", "ext": "query"}
_PART = {"experimentIdentifier": "query", "attribute": "query", "uploadId": "query"}
OPERATIONS = {
    "getClientConfig": Operation(BACKEND, "get", _TOKEN | {"alpha": "query"}, "ClientConfig"),
    "exchangeApiToken": Operation(BACKEND, "get", _TOKEN, "AuthTokens"),
    "getProject": Operation(BACKEND, "get", {"projectIdentifier": "query"}, "Project"),
    "listProjects": Operation(
        BACKEND,
        "get",
        dict.fromkeys(("limit", "organizationIdentifier", "searchTerm", "userRelation"), "query")
        | {"sortBy": "queries", "sortDirection": "queries"},
        "Projects",
    ),
    "listOrganizations": Operation(BACKEND, "get", {}, "[Organization]"),
    "createExperiment": Operation(
        LEADERBOARD, "post", {"experimentCreationParams": "body", "X-Neptune-CliVersion": "header"}, "Experiment"
    ),
    "getExperiment": Operation(LEADERBOARD, "get", {"experimentId": "query"}, "Experiment"),
    "getExperimentAttributes": Operation(LEADERBOARD, "get", {"experimentId": "query"}, "Attributes"),
    "executeOperations": Operation(
        LEADERBOARD, "post", {"experimentId": "query", "operations": "body"}, "[OperationError]"
    ),
    "ping": Operation(LEADERBOARD, "post", {"experimentId": "query"}),
    "searchLeaderboardEntries": Operation(
        LEADERBOARD, "post", {"projectIdentifier": "query", "type": "queries", "params": "body"}
    ),
    "fileAtomUpload": Operation(LEADERBOARD, "post", _UPLOAD),
    "fileAtomMultipartUploadStart": Operation(LEADERBOARD, "post", _UPLOAD | {"totalLength": "query"}, "Upload"),
    "fileAtomMultipartUploadPart": Operation(LEADERBOARD, "post", _PART | {"uploadPartIdx": "query"}),
    "fileAtomMultipartUploadFinish": Operation(LEADERBOARD, "post", _PART, "Upload"),
    "downloadAttribute": Operation(LEADERBOARD, "get", _ONE),
} | {
    f"get{kind.capitalize()}Attribute": Operation(LEADERBOARD, "get", _ONE, f"{kind.capitalize()}Attribute")
    for kind in (*_VALUES, "file")
}
ROUTES = {(operation.method.upper(), operation.path(name)): name for name, operation in OPERATIONS.items()}


def swagger(service: str, host: str) -> dict[str, Any]:
    """Return what a server at this host says of one of its services."""
    here = {name: operation for name, operation in OPERATIONS.items() if operation.service == service}
    return {
        "swagger": "2.0",
        "info": {"title": service, "version": "1"},
        "host": host,
        "schemes": ["http"],
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "paths": {
            operation.path(name): {operation.method: _described(name, operation)} for name, operation in here.items()
        },
        "definitions": {
            name: {"type": "object", "properties": {key: _schema(kind) for key, kind in properties.items()}}
            for name, properties in MODELS.items()
        },
    }


def _described(name: str, operation: Operation) -> dict[str, Any]:
    message: dict[str, Any] = {"description": name}
    if operation.answer:
        message["schema"] = _schema(operation.answer)
    return {
        "operationId": name,
        "tags": ["api"],
        "parameters": [_parameter(key, place) for key, place in operation.parameters.items()],
        "responses": {"200": message},
    }


def _parameter(name: str, place: str) -> dict[str, Any]:
    if place == "body":
        return {"name": name, "in": "body", "schema": {}}
    if place == "queries":
        return {"name": name, "in": "query", "type": "array", "items": {"type": "string"}, "collectionFormat": "multi"}
    return {"name": name, "in": place, "type": "string"}


def _schema(kind: str) -> dict[str, Any]:
    if kind.startswith("["):
        return {"type": "array", "items": _schema(kind[1:-1])}
    return {"$ref": f"#/definitions/{kind}"} if kind in MODELS else {"type": kind, "x-nullable": True}
