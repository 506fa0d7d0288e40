"""The OpenAPI document says what the server does, and the pages say what its code has."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from serving.domain.errors import InvalidRequest
from serving.domain.tensors import ROWS, Datatype, Signature, TensorSpec
from serving.online.entrypoint_settings import EntrypointSettings
from serving.online.inference import ServedModel
from serving.online.rest import pages
from serving.online.rest.limits import Limits
from serving.online.rest.openapi import document
from serving.online.rest.status import CODES
from tests.platform.support.artifacts import tiny
from tests.platform.support.requests import MODEL
from tests.platform.support.rest import good_json, serving_rest
from tests.platform.support.services import fake_service
from tests.platform.support.workspace import THIS_REPO

PAGE = (THIS_REPO / "docs" / "rest-api.md").read_text(encoding="utf-8")


def described(model: ServedModel, *, tokens: bool = False) -> dict[str, Any]:
    """Return the document as a client reads it."""
    return dict(json.loads(json.dumps(document(model, tokens=tokens))))


def schema_of(found: dict[str, Any], name: str) -> dict[str, Any]:
    """Return one schema, with the others where its references look for them."""
    schema: dict[str, Any] = found["components"]["schemas"][name]
    return {"components": found["components"], **schema}


async def test_requests_and_answers_fit_the_document_of_each_model() -> None:
    async with serving_rest(fake_service(MODEL)) as rest:
        found = (await rest.get("/v2/openapi.json")).json
        answer = await rest.infer(good_json())
        refused = await rest.infer({})
        metadata = await rest.get("/v2/models/rich")
    assert found["openapi"].startswith("3.1.")
    for content, name in (
        (good_json(), "Request"),
        (answer.json, "Answer"),
        (refused.json, "Problem"),
        (metadata.json, "Model"),
    ):
        jsonschema_rs.validate(schema_of(found, name), content)
    wrong = good_json()
    wrong["inputs"][0]["data"] = ["no"]
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema_of(found, "Request"), wrong)


def test_it_has_the_names_units_and_examples_of_the_model() -> None:
    examples = {"base": np.array([1.5, 2], "<f4"), "value": np.array([3, 4], "<f4")}
    model = replace(fake_service(tiny()).model, examples=examples)
    found = described(model)
    tensors = found["components"]["schemas"]["Request"]["properties"]["inputs"]["prefixItems"]
    assert [(tensor["title"], tensor.get("description")) for tensor in tensors] == [
        ("base", None),
        ("value", "What is added. Unit: 1."),
    ]
    call = found["paths"]["/v2/models/tiny/infer"]["post"]
    example = call["requestBody"]["content"]["application/json"]["examples"]["rows"]["value"]
    assert [(tensor["name"], tensor["shape"], tensor["data"]) for tensor in example["inputs"]] == [
        ("base", [2], [1.5, 2.0]),
        ("value", [2], [3.0, 4.0]),
    ]
    assert "security" not in found
    assert described(model, tokens=True)["security"] == [{"token": []}]


async def test_the_page_and_its_files_come_from_this_server_alone() -> None:
    async with serving_rest(fake_service(MODEL)) as rest:
        page = await rest.get("/docs")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        links = re.findall(r'(?:href|src)="([^"]+)"', page.body.decode())
        assert len(links) == 3
        for link in links:
            assert link.startswith("/docs/")
            file = await rest.get(link)
            assert file.status == 200
            assert file.body
        assert b'"/v2/openapi.json"' in (await rest.get("/docs/start.js")).body
        assert (await rest.get("/docs/../../base.txt")).status == 404


def test_missing_files_of_the_page_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="requirements/rest_api.txt"):
        pages.routes()


def test_the_limits_follow_from_the_signature() -> None:
    image = TensorSpec("image", Datatype.FP32, (ROWS, 28, 28))
    limits = Limits.of(Signature((image,), (), 16))
    assert limits.max_bytes == 16 * 784 * 32 + 64 * 1024
    limits.check(b"[" * (1 + 16 * 29) + b"0," * 16 * 784)
    with pytest.raises(InvalidRequest, match="112545 values, no valid one has more than 112544"):
        limits.check(b"," * (16 * 784 + 100_001))
    for sign, what in ((b"[", "lists"), (b"{", "objects")):
        with pytest.raises(InvalidRequest, match=f"100466 {what}, no valid one has more than 100465"):
            limits.check(sign * (1 + 16 * 29 + 100_001))


def test_every_refusal_of_the_service_has_a_status_on_the_page() -> None:
    listed = set(re.findall(r"\b[45]\d\d\b", PAGE.partition("## Refusals")[2].partition("\n## ")[0]))
    assert {str(int(status)) for status in CODES.values()} <= listed


def test_the_page_lists_the_settings_with_their_defaults() -> None:
    rows = re.findall(r"^\| `SERVING_(\w+)` \| (?:`(\w+)`)? ?\|", PAGE, re.MULTILINE)
    own = {name: EntrypointSettings.model_fields[name] for name in EntrypointSettings.__annotations__}
    assert {name.lower(): default for name, default in rows} == {
        name: str(field.default) for name, field in own.items()
    }


def test_rest_and_grpc_do_not_know_each_other() -> None:
    online = Path(THIS_REPO, "src", "serving", "online")
    for folder, other in (("rest", r"\bgrpc\b"), ("grpc", r"online\.rest")):
        for module in (online / folder).glob("*.py"):
            imports = re.findall(r"^\s*(?:from|import) .*", module.read_text(encoding="utf-8"), re.MULTILINE)
            assert [line for line in imports if re.search(other, line)] == [], module
