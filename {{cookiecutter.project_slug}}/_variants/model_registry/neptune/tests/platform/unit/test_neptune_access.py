from __future__ import annotations

import base64
import json

import pytest

from serving.adapters.model_registry.neptune_access import Access, model_key, read_access
from serving.domain.errors import SettingsError


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEPTUNE_API_TOKEN", "NEPTUNE_API_TOKEN_FILE", "NEPTUNE_MODEL_KEY", "OAUTHLIB_INSECURE_TRANSPORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NEPTUNE_PROJECT", "team/serving")


def token(**content: object) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


def test_the_server_address_comes_from_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    given = token(api_address="https://neptune.example.com", api_key="secret")
    monkeypatch.setenv("NEPTUNE_API_TOKEN", given)
    assert read_access() == Access("https://neptune.example.com", "team/serving", given)
    monkeypatch.setenv(
        "NEPTUNE_API_TOKEN", token(api_address="https://a.example.com", api_url="https://b.example.com:1")
    )
    assert read_access().host == "b.example.com:1"


def test_printing_an_access_does_not_print_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    given = token(api_address="https://neptune.example.com")
    monkeypatch.setenv("NEPTUNE_API_TOKEN", given)
    assert given not in f"{read_access()} {read_access()!r}"


@pytest.mark.parametrize("address", ["app.neptune.ai", "neptune.ai/", "APP.Neptune.AI:443", "app.neptune.ai./api"])
@pytest.mark.parametrize("key", ["api_address", "api_url"])
def test_the_hosted_service_is_refused_with_the_reason(key: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "NEPTUNE_API_TOKEN", token(**{"api_address": "https://neptune.example.com", key: f"https://{address}"})
    )
    with pytest.raises(SettingsError, match="hosted neptune.ai closed on 2026-03-05"):
        read_access()


def test_a_host_with_a_similar_ending_is_not_the_hosted_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEPTUNE_API_TOKEN", token(api_address="https:" + "//notneptune.ai"))
    assert read_access().host == "notneptune.ai"


@pytest.mark.parametrize(
    "given",
    ["secret", "c2VjcmV0", token(api_key="secret"), token(api_address=None), base64.b64encode(b"[]").decode(), "!!!"],
)
def test_an_invalid_token_is_refused_and_not_printed(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEPTUNE_API_TOKEN", given)
    with pytest.raises(SettingsError, match="^NEPTUNE_API_TOKEN: is not a token of a Neptune server") as refusal:
        read_access()
    assert given not in str(refusal.value)


@pytest.mark.parametrize("address", ["ftp://host", "host", "https://", "https://host:x", "https://host:0"])
def test_a_token_without_a_usable_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEPTUNE_API_TOKEN", token(api_address=address))
    with pytest.raises(SettingsError, match="^NEPTUNE_API_TOKEN: holds no http:// or https:// address"):
        read_access()


def test_a_token_is_sent_unencrypted_only_if_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEPTUNE_API_TOKEN", token(api_address="http://neptune.example.com"))
    with pytest.raises(SettingsError, match="can read the token in transit; give it https://"):
        read_access()
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    assert read_access().host == "neptune.example.com"


def test_a_missing_token_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        SettingsError, match="^NEPTUNE_API_TOKEN: is not set, and NEPTUNE_API_TOKEN_FILE names no file with it"
    ):
        read_access()


@pytest.mark.parametrize("project", ["", "serving", "team/", "/serving", "team/ser ving", "a/b/c"])
def test_an_invalid_project_is_refused(project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEPTUNE_API_TOKEN", token(api_address="https://neptune.example.com"))
    monkeypatch.setenv("NEPTUNE_PROJECT", project)
    with pytest.raises(SettingsError, match=r"^NEPTUNE_PROJECT=.*the form is workspace/project"):
        read_access()


def test_the_key_of_a_model_is_its_name_in_capital_letters_and_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert model_key("cultivar-2-classifier") == "CULTIVAR2CLASSIFIER"
    monkeypatch.setenv("NEPTUNE_MODEL_KEY", "CULT")
    assert model_key("cultivar-2-classifier") == "CULT"
    monkeypatch.setenv("NEPTUNE_MODEL_KEY", "di-ab")
    with pytest.raises(SettingsError, match="NEPTUNE_MODEL_KEY='di-ab': is not the key of a model"):
        model_key("cultivar-2-classifier")
