# ruff: noqa: N802, N815 - names of Neptune's API, and of the standard library's
"""A STAND-IN for a self-hosted Neptune 2.x server: what its API does for models, in memory, for the real client.

Nobody can get a Neptune server any more, so this was written from what the unmodified client sends and reads. It was
never compared with a real one. It knows one workspace, one project, models, versions, fields of simple types and files;
it knows no runs, series, permissions, quotas and expiry. Whatever else it is asked for it answers with 400.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.registries.neptune_api import BACKEND, LEADERBOARD, ROUTES, swagger

WORKSPACE, PROJECT, PROJECT_KEY = "team", "serving", "SRV"
KEY = "key-of-a-stand-in-0123456789"
# Small, so that a test's model of some kilobytes is sent in parts as a large one would be.
PARTS = {"enabled": True, "minChunkSize": 1024, "maxChunkSize": 4096, "maxChunkCount": 1000, "maxSinglePartSize": 2048}
# The tables of the real one lag behind what was written; so says its exporter's own test.
LAG = 4
_CREATED = "2026-01-01T00:00:00.000Z"

Field = tuple[str, Any]


class RefusalError(Exception):
    """An error response."""

    def __init__(self, status: int, kind: str) -> None:
        super().__init__(kind)
        self.status = status


@dataclass
class Thing:
    """A project, a model or a version, with its fields by path: their type and value."""

    kind: str
    short_id: str
    fields: dict[str, Field] = field(default_factory=dict)
    versions: int = 0
    unseen: int = 0
    """How many more tables it is missing from."""

    def described(self) -> dict[str, Any]:
        return {
            "id": self.short_id,
            "type": self.kind,
            "shortId": self.short_id,
            "organizationName": WORKSPACE,
            "projectName": PROJECT,
            "trashed": False,
        }

    def attributes(self) -> list[dict[str, Any]]:
        return [
            {"name": path, "type": kind, f"{kind}Properties": _properties(path, kind, value)}
            for path, (kind, value) in sorted(self.fields.items())
        ]

    def put(self, path: str, kind: str, value: Any) -> list[dict[str, str]]:
        there = self.fields.get(path)
        if there and there[0] != kind:
            return [{"errorDescription": f"{path} is of type {there[0]}, not {kind}"}]
        self.fields[path] = (kind, value)
        return []


class Neptune:
    """What the server keeps, and one method for each operation of its API."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        project = Thing("project", PROJECT_KEY)
        project.fields = {"sys/id": ("string", PROJECT_KEY), "sys/name": ("string", PROJECT)}
        self._things = {PROJECT_KEY: project}
        self._uploads: dict[str, dict[int, bytes]] = {}

    def answer(self, name: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> Any:
        """Carry out an operation.

        :raises RefusalError: with the status to answer
        """
        if name in ("getClientConfig", "exchangeApiToken"):
            if headers.get("X-Neptune-Api-Token") != token(self._address):
                raise RefusalError(401, "UNAUTHORIZED")
        elif not headers.get("Authorization", "").startswith("Bearer "):
            raise RefusalError(401, "UNAUTHORIZED")
        with self._lock:
            return getattr(self, f"_{name}", self._unknown)(query, body)

    def access(self) -> dict[str, Any]:
        """Return what an OAuth server returns; the token has no valid signature, and the client doesn't check it."""
        output = {"iss": f"{self._address}/auth", "azp": "stand-in", "exp": 4_000_000_000}
        parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, output)]
        signed = ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "c2lnbmVk"])
        return {"access_token": signed, "refresh_token": signed, "token_type": "Bearer", "expires_in": 3600}

    def _unknown(self, _query: Mapping[str, str], _body: bytes) -> Any:
        raise RefusalError(400, "NOT_EMULATED")

    def _getClientConfig(self, _query: Mapping[str, str], _body: bytes) -> Any:
        versions = {"minCompatibleVersion": "1.0.2"}
        return {
            "apiUrl": self._address,
            "applicationUrl": self._address,
            "pyLibVersions": versions,
            "multiPartUpload": PARTS,
        }

    def _exchangeApiToken(self, _query: Mapping[str, str], _body: bytes) -> Any:
        access = self.access()
        return {"accessToken": access["access_token"], "refreshToken": access["refresh_token"]}

    def _getProject(self, query: Mapping[str, str], _body: bytes) -> Any:
        if query["projectIdentifier"] not in (f"{WORKSPACE}/{PROJECT}", PROJECT_KEY):
            raise RefusalError(404, "PROJECT_NOT_FOUND")
        named = {"name": PROJECT, "organizationName": WORKSPACE, "projectKey": PROJECT_KEY}
        return {"id": PROJECT_KEY, "version": 2, **named}

    def _listProjects(self, _query: Mapping[str, str], _body: bytes) -> Any:
        return {"entries": []}

    def _listOrganizations(self, _query: Mapping[str, str], _body: bytes) -> Any:
        return []

    def _createExperiment(self, _query: Mapping[str, str], body: bytes) -> Any:
        wanted = json.loads(body)
        if wanted["type"] == "model":
            made = Thing("model", f"{PROJECT_KEY}-{wanted['key']}")
            if made.short_id in self._things:
                raise RefusalError(409, "CONFLICT")
            extra: dict[str, Field] = {}
        elif wanted["type"] == "modelVersion":
            model = self._thing(wanted["parentId"])
            model.versions += 1
            made = Thing("modelVersion", f"{model.short_id}-{model.versions}")
            extra = {"sys/model_id": ("string", model.short_id), "sys/stage": ("string", "none")}
            made.unseen = LAG
        else:
            raise RefusalError(400, "NOT_EMULATED")
        made.fields = {
            "sys/id": ("string", made.short_id),
            "sys/creation_time": ("datetime", _CREATED),
            "sys/trashed": ("bool", False),
            **extra,
        }
        self._things[made.short_id] = made
        return made.described()

    def _getExperiment(self, query: Mapping[str, str], _body: bytes) -> Any:
        return self._thing(query["experimentId"].removeprefix(f"{WORKSPACE}/{PROJECT}/")).described()

    def _getExperimentAttributes(self, query: Mapping[str, str], _body: bytes) -> Any:
        return {"attributes": self._thing(query["experimentId"]).attributes()}

    def _executeOperations(self, query: Mapping[str, str], body: bytes) -> Any:
        thing, errors = self._thing(query["experimentId"]), []
        for operation in json.loads(body):
            ((name, content),) = ((key, value) for key, value in operation.items() if key != "path")
            if name == "deleteAttribute" and operation["path"] in thing.fields:
                del thing.fields[operation["path"]]
                continue
            kind = name.removeprefix("assign").lower()
            if not name.startswith("assign") or kind not in ("float", "int", "bool", "string"):
                raise RefusalError(400, "NOT_EMULATED")
            errors += thing.put(operation["path"], kind, content["value"])
        return errors

    def _ping(self, query: Mapping[str, str], _body: bytes) -> Any:
        self._thing(query["experimentId"])
        return {}

    def _searchLeaderboardEntries(self, _query: Mapping[str, str], body: bytes) -> Any:
        wanted = json.loads(body)
        asked = re.fullmatch(
            r'\(\(`sys/trashed`:bool = false\) AND \(`sys/model_id`:string = "([^"]+)"\)\)', wanted["query"]["query"]
        )
        sorting = wanted["sorting"]
        if not asked or (sorting["sortBy"]["name"], sorting["dir"]) != ("sys/id", "ascending"):
            raise RefusalError(400, "NOT_EMULATED")
        found = sorted(
            (thing.short_id, thing)
            for thing in self._things.values()
            if thing.fields.get("sys/model_id") == ("string", asked[1])
        )
        found = [(name, thing) for name, thing in found if not thing.unseen]
        for thing in self._things.values():
            thing.unseen = max(0, thing.unseen - 1)
        first, size = wanted["pagination"]["offset"], wanted["pagination"]["limit"]
        columns = {entry["path"] for entry in wanted["attributeFilters"]}
        entries = [
            {
                "experimentId": name,
                "attributes": [attribute for attribute in thing.attributes() if attribute["name"] in columns],
            }
            for name, thing in found[first : first + size]
        ]
        return {"matchingItemCount": len(found), "entries": entries}

    def _fileAtomUpload(self, query: Mapping[str, str], body: bytes) -> Any:
        return {"errors": self._thing(query["experimentIdentifier"]).put(query["attribute"], "file", body)}

    def _fileAtomMultipartUploadStart(self, _query: Mapping[str, str], _body: bytes) -> Any:
        upload = str(len(self._uploads))
        self._uploads[upload] = {}
        return {"uploadId": upload, "errors": []}

    def _fileAtomMultipartUploadPart(self, query: Mapping[str, str], body: bytes) -> Any:
        self._uploads[query["uploadId"]][int(query["uploadPartIdx"])] = body
        return {"errors": []}

    def _fileAtomMultipartUploadFinish(self, query: Mapping[str, str], _body: bytes) -> Any:
        parts = self._uploads[query["uploadId"]]
        content = b"".join(parts[number] for number in sorted(parts))
        errors = self._thing(query["experimentIdentifier"]).put(query["attribute"], "file", content)
        return {"uploadId": query["uploadId"], "errors": errors}

    def _downloadAttribute(self, query: Mapping[str, str], _body: bytes) -> Any:
        return self._field(query, "file")

    def _getStringAttribute(self, query: Mapping[str, str], _body: bytes) -> Any:
        return {"value": self._field(query, "string")}

    def _field(self, query: Mapping[str, str], kind: str) -> Any:
        found = self._thing(query["experimentId"]).fields.get(query["attribute"])
        if not found or found[0] != kind:
            raise RefusalError(404, "ATTRIBUTE_NOT_FOUND")
        return found[1]

    def _thing(self, name: str) -> Thing:
        if name not in self._things:
            raise RefusalError(404, "EXPERIMENT_NOT_FOUND")
        return self._things[name]


def token(address: str) -> str:
    """Return an API token for a server at this address, in the form that its pages show."""
    return base64.b64encode(json.dumps({"api_address": address, "api_url": address, "api_key": KEY}).encode()).decode()


@contextmanager
def neptune_server(listening: str = "127.0.0.1", port: int = 0, name: str = "127.0.0.1") -> Iterator[str]:
    """Run the stand-in; yield its address under this host name."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else each answer waits 40 ms: headers and body travel apart, and the client acknowledges late.
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = urlsplit(self.path)
            try:
                status, output = 200, answer(self.command, asked.path, asked.query, self.headers, body)
            except RefusalError as refusal:
                status, output = refusal.status, {"errorType": str(refusal), "title": str(refusal)}
            content = output if isinstance(output, bytes) else json.dumps(output).encode()
            self.send_response(status)
            kind = "application/octet-stream" if isinstance(output, bytes) else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    def answer(method: str, path: str, query: str, headers: Message, body: bytes) -> Any:
        for service in (BACKEND, LEADERBOARD):
            if path == f"/api/{service}/swagger.json":
                return swagger(service, urlsplit(address).netloc)
        if path == "/auth/protocol/openid-connect/token":
            return neptune.access()
        name = ROUTES.get((method, path))
        if name is None:
            raise RefusalError(400, "NOT_EMULATED")
        single = {key: values[-1] for key, values in parse_qs(query, keep_blank_values=True).items()}
        return neptune.answer(name, single, dict(headers.items()), body)

    with ThreadingHTTPServer((listening, port), Handler) as server:
        address = f"http://{name}:{server.server_port}"
        neptune = Neptune(address)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield address
        finally:
            server.shutdown()
            thread.join()


def _properties(path: str, kind: str, value: Any) -> dict[str, Any]:
    if kind == "file":
        return {"name": path.rpartition("/")[2], "ext": "", "size": len(value)}
    return {"attributeName": path, "attributeType": kind, "value": value}


if __name__ == "__main__":  # in a container: python -m tests.registries.neptune_server NAME PORT
    with neptune_server("0.0.0.0", int(sys.argv[2]), sys.argv[1]):  # noqa: S104 - on networks of containers only
        threading.Event().wait()
