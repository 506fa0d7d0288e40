"""Without a usable Neptune server every call ends in time with one sentence that shows no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.adapters.model_registry.neptune import NeptuneRegistry
from serving.domain.errors import RegistryUnavailable
from tests.platform.support.registry_address import CANARY, point_to
from tests.platform.support.registry_calls import CALLS, PROMOTION, Call
from tests.platform.support.troubled_server import PAGE, answering, no_listener, silent

# Answers of servers that are not Neptune, and the resulting messages.
ANSWERS: dict[str, tuple[int, bytes, str]] = {
    "a page": (200, PAGE, "it answers, but is not a Neptune server"),
    "other JSON": (200, b'{"detail": "hello"}', "it answers, but is not a Neptune server"),
    "not now": (503, b"{}", "HTTP 503"),
    "moved": (308, b"", "HTTP 308"),
    "gone": (410, b"{}", "HTTP 410"),
    "no way in": (403, b"{}", "rejects it"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_server_that_never_answers_times_out(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with silent() as port:
        point_to(port, monkeypatch)
        with pytest.raises(RegistryUnavailable, match=rf"^Neptune at 127.0.0.1:{port}: gave no answer within 0.5 s; "):
            call(NeptuneRegistry(), folder, 0.5)
    assert not [path for path in folder.iterdir() if path.name != "source"]


def test_a_server_that_refuses_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with no_listener() as port:
        point_to(port, monkeypatch)
    with pytest.raises(RegistryUnavailable, match=r"gave no usable answer \(ConnectionRefusedError\)"):
        NeptuneRegistry().read("tiny", timeout=60)


@pytest.mark.parametrize(("status", "content", "output"), ANSWERS.values(), ids=ANSWERS)
def test_a_server_that_is_not_neptune_is_reported(
    status: int, content: bytes, output: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(status, content) as port:
        point_to(port, monkeypatch)
        with pytest.raises(Exception, match=output) as refusal:
            NeptuneRegistry().read("tiny", timeout=60)
    assert CANARY not in str(refusal.value)


def test_environment_variables_can_not_make_the_client_pretend(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEPTUNE_MODE", "debug")  # with it, the client reports success without doing anything
    with answering(200, b'{"swagger": "2.0"}') as port:
        point_to(port, monkeypatch)
        with pytest.raises(RegistryUnavailable, match="gave no usable answer"):
            NeptuneRegistry().append("tiny", PROMOTION, timeout=60)
