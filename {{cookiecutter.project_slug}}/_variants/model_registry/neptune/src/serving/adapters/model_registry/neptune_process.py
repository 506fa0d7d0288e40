"""The child process that uses Neptune's client.

The client can hang, prints, and logs the token at DEBUG. So it runs where it can be killed, without output, and only
the class of its exceptions is reported. Other traps: `mode` is always given, since the environment could override it,
and in `debug` everything "succeeds". Writes are synchronous and read back. An object is always opened for writing with
its name, since the client would otherwise rename it to "Untitled".

The layout: a model's promotions are its string fields `promotions/000001` and so on. While one is decided, each writer
has a field `attempts/000001/<writer>`; see `ballots.py`. A version's files are the fields `artifact/...`; its field
`serving/digest` is written last, and a version without it does not exist.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from serving.adapters.model_registry import ballots
from serving.adapters.model_registry.ballots import UnreadableAttempt

DIGEST = "serving/digest"
COLUMNS = ("sys/id", "sys/stage", DIGEST, "serving/registered_at", "serving/origin")
STALE, REFUSED, FAILED = "stale", "refused", "failed"
_FIRST_ANSWER_S = 10.0
_LAG_S = 0.2


class Refused(Exception):
    """The request failed; `kind` selects the exception in the parent process."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Workspace:
    """One project on one server; closes what it opened."""

    def __init__(self, client: Any, project: str, token: str) -> None:
        self._client = client
        self._access = {"project": project, "api_token": token}
        self._opened: list[Any] = []

    def model_id(self, key: str) -> str:
        """Return the id of the model with this key."""
        project = self._keep(self._client.init_project(**self._access, mode="read-only"))
        return f"{project['sys/id'].fetch()}-{key}"

    def model(self, model: str, key: str, mode: str) -> Any | None:
        """Open a model; return None if there is none with this key."""
        model_id = self.model_id(key)
        try:
            found = self._keep(self._client.init_model(with_id=model_id, **self._access, mode="read-only"))
        except self._client.exceptions.ModelNotFound:
            return None
        # Right after another process created it, it has no name yet.
        called = found["sys/name"].fetch() if found.exists("sys/name") else model
        if called != model:
            raise Refused(
                REFUSED, f"the model {key} is called {called!a}, not {model}; set NEPTUNE_MODEL_KEY to another key."
            )
        if mode == "read-only":
            return found
        return self._keep(self._client.init_model(with_id=model_id, name=model, **self._access, mode=mode))

    def created_model(self, model: str, key: str) -> Any:
        """Open a model for writing; create it if needed."""
        found = self.model(model, key, "sync")
        if found is not None:
            return found
        try:
            return self._keep(self._client.init_model(key=key, name=model, **self._access, mode="sync"))
        except self._client.exceptions.NeptuneModelKeyAlreadyExistsError:  # another process was faster
            return self.model(model, key, "sync")

    def new_version(self, model_id: str, name: str) -> Any:
        """Create the next version of a model, open for writing."""
        return self._keep(self._client.init_model_version(model=model_id, name=name, **self._access, mode="sync"))

    def version(self, version_id: str) -> Any:
        """Open a version for reading."""
        return self._keep(self._client.init_model_version(with_id=version_id, **self._access, mode="read-only"))

    def move(self, version_id: str, name: str, stage: str) -> None:
        """Move a version to a stage."""
        opened = self._client.init_model_version(with_id=version_id, name=name, **self._access, mode="sync")
        self._keep(opened).change_stage(stage)

    def close(self) -> None:
        """Close all opened objects."""
        for opened in reversed(self._opened):
            opened.stop()

    def _keep(self, opened: Any) -> Any:
        self._opened.append(opened)
        return opened


class FieldPosition:
    """One number of a model's history, as a position of `ballots.py`; `model` is opened for writing."""

    def __init__(self, model: Any, number: int) -> None:
        self._model = model
        self._number = f"{number:06}"

    def read(self) -> tuple[Mapping[str, str], str | None]:
        """Return the attempts by writer, and the settled text; one request, so as they are at one moment."""
        fields = self._model.fetch()
        return fields.get("attempts", {}).get(self._number, {}), fields.get("promotions", {}).get(self._number)

    def attempt(self, writer: str, text: str) -> None:
        """Write this writer's attempt."""
        self._model[self.path(writer)] = text

    def withdraw(self, writer: str) -> None:
        """Remove this writer's attempt."""
        self._model.pop(self.path(writer))

    def settle(self, text: str) -> None:
        """Write the settled text."""
        self._model[f"promotions/{self._number}"] = text

    def path(self, writer: str) -> str:
        """Return the path of a writer's field."""
        return f"attempts/{self._number}/{writer}"


def read(workspace: Workspace, model: str, key: str) -> dict[str, Any]:
    """Return the rows of all complete versions, and all promotions by number."""
    found = workspace.model(model, key, "read-only")
    if found is None:
        return {"versions": [], "promotions": {}}
    promotions = found["promotions"].fetch() if found.exists("promotions") else {}
    return {"versions": [row for row in _rows(found) if row.get(DIGEST)], "promotions": promotions}


def add(
    workspace: Workspace, model: str, key: str, files: Mapping[str, str], fields: Mapping[str, Any], digest: str
) -> str:
    """Create a version with these files and fields; return its id."""
    parent = workspace.created_model(model, key)
    version = workspace.new_version(parent["sys/id"].fetch(), model)
    for path, value in fields.items():
        version[path] = value
    for path, file in files.items():
        version[path].upload(file, wait=True)
    with tempfile.TemporaryDirectory() as place:
        for path, file in files.items():
            arrived = Path(place) / "arrived"
            version[path].download(str(arrived), progress_bar=False)
            if arrived.read_bytes() != Path(file).read_bytes():
                raise Refused(REFUSED, f"the server returns a different {path} than it was given; register it again.")
    version[DIGEST] = digest
    if version[DIGEST].fetch() != digest:
        raise Refused(REFUSED, f"the server returns a different {DIGEST} than it was given; register it again.")
    made = str(version["sys/id"].fetch())
    # Neptune's tables lag behind: wait until the version is visible. The parent's deadline bounds this loop.
    while not any(row["sys/id"] == made and row.get(DIGEST) == digest for row in _rows(parent)):
        time.sleep(_LAG_S)
    return made


def download(workspace: Workspace, key: str, number: str, files: Mapping[str, str]) -> None:
    """Download the files that a version has."""
    version = workspace.version(f"{workspace.model_id(key)}-{number}")
    for path, file in files.items():
        if version.exists(path):
            version[path].download(file, progress_bar=False)


def append(workspace: Workspace, model: str, key: str, position: int, content: str, number: str, stage: str) -> None:
    """Write a new promotion, then move the stage from its previous holder."""
    found = workspace.model(model, key, "sync")
    if found is None:
        raise Refused(STALE, "")
    fields = FieldPosition(found, position)
    try:
        recorded = ballots.settle(fields, content, secrets.token_hex(8))
    except UnreadableAttempt as error:
        raise Refused(REFUSED, f"the field {fields.path(str(error))} of {model} can't be read; delete it.") from None
    if not recorded:
        raise Refused(STALE, "")
    promoted = f"{found['sys/id'].fetch()}-{number}"
    for row in _rows(found):
        if row.get("sys/stage") == stage and row["sys/id"] != promoted:
            workspace.move(row["sys/id"], model, "archived")
    workspace.move(promoted, model, stage)


def _rows(model: Any) -> list[dict[str, str]]:
    """Return the columns of each version, ordered by id: other orders make the client send more requests."""
    table = model.fetch_model_versions_table(columns=COLUMNS, sort_by="sys/id", ascending=True, progress_bar=False)
    rows = []
    for entry in table.to_rows():
        row = {}
        for column in COLUMNS:
            try:
                row[column] = str(entry.get_attribute_value(column))
            except ValueError:  # the client's exception for a missing field
                continue
        rows.append(row)
    return rows


WORK: Mapping[str, Callable[..., Any]] = {work.__name__: work for work in (read, add, download, append)}


def perform(client: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """Perform a request; return its result or the kind of its failure."""
    workspace = Workspace(client, request["project"], request["token"])
    try:
        return {"result": WORK[request["work"]](workspace, **request["arguments"])}
    except Refused as refusal:
        return {"error": refusal.kind, "text": str(refusal)}
    except Exception as error:  # noqa: BLE001 - bravado, requests and the client raise anything; the text may contain the token
        return {"error": FAILED, "text": type(error).__name__}
    finally:
        workspace.close()


def is_neptune(address: str) -> str:
    """Return an empty text if a Neptune server answers at this address, else the fault; follow no redirect."""

    class Straight(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    asked = f"{address.rstrip('/')}/api/backend/swagger.json"
    try:
        with urllib.request.build_opener(Straight).open(asked, timeout=_FIRST_ANSWER_S) as answer:
            response = json.load(answer)
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except OSError as error:
        return type(getattr(error, "reason", error)).__name__
    except ValueError:
        return "it answers, but is not a Neptune server"
    return "" if isinstance(response, dict) and "swagger" in response else "it answers, but is not a Neptune server"


def main() -> None:
    """Perform the request on standard input; write the response to standard output, closed to all other output."""
    request = json.load(sys.stdin)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        nothing = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nothing, stream)
        wrong = is_neptune(request["address"])
        response = {"error": FAILED, "text": wrong} if wrong else perform(importlib.import_module("neptune"), request)
        json.dump(response, answers)
    os._exit(0)  # skips the client's exit hooks, which would call the server again


if __name__ == "__main__":
    main()
