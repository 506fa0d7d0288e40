"""Without a usable MLflow server every call ends in time with one sentence that shows no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.adapters.model_registry.mlflow import MlflowRegistry
from serving.domain.errors import RegistryUnavailable, SettingsError
from tests.platform.support.registry_address import CANARY, point_to
from tests.platform.support.registry_calls import CALLS, Call
from tests.platform.support.troubled_server import PAGE, answering, silent


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_server_that_never_answers_times_out(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with silent() as port:
        point_to(port, monkeypatch)
        message = rf"^MLflow at 127.0.0.1:{port}: gave no answer within 0.2 s; "
        with pytest.raises(RegistryUnavailable, match=message) as refusal:
            call(MlflowRegistry(), folder, 0.2)
    assert CANARY not in str(refusal.value)
    assert not [path for path in folder.iterdir() if path.name != "source"]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_answer_of_another_server_is_reported(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200, PAGE) as port:
        point_to(port, monkeypatch)
        message = rf"^MLflow at 127.0.0.1:{port}: gave no usable answer.*; "
        with pytest.raises(RegistryUnavailable, match=message) as refusal:
            call(MlflowRegistry(), folder, 60)
    assert CANARY not in str(refusal.value)


@pytest.mark.parametrize(
    "uri", ["", "sqlite:///secret.db", "file:///secret", "/secret", "http://", "http://ann:secret@h:x"]
)
def test_a_value_that_is_not_a_server_address_is_refused(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(SettingsError, match="^MLFLOW_TRACKING_URI: .*; set it to the server's http:// or") as refusal:
        MlflowRegistry().read("tiny", timeout=1)
    assert "secret" not in str(refusal.value)
