"""Without a usable MLflow server every call ends in time, with one sentence that holds no secret."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from serving.adapters.mlflow_registry import MlflowRegistry
from serving.errors import RegistryAway, SettingsError
from tests.support.registry_calls import CALLS, Call


class Babble(BaseHTTPRequestHandler):
    """Answer everything with a page, as a proxy or a wrong address does."""

    def do_GET(self) -> None:
        page = b"<html>welcome</html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hole() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def babble() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Babble) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def point_to(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:secret@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_server_that_never_answers_is_given_up(
    call: Call, hole: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_to(hole, monkeypatch)
    with pytest.raises(RegistryAway, match=rf"^MLflow at 127.0.0.1:{hole}: gave no answer within 0.2 s; ") as refusal:
        call(MlflowRegistry(), folder, 0.2)
    assert "secret" not in str(refusal.value)
    assert not [path for path in folder.iterdir() if path.name != "source"]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_answer_that_is_not_mlflows_is_told(
    call: Call, babble: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_to(babble, monkeypatch)
    with pytest.raises(RegistryAway, match=rf"^MLflow at 127.0.0.1:{babble}: gave no usable answer.*; ") as refusal:
        call(MlflowRegistry(), folder, 60)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "uri", ["", "sqlite:///secret.db", "file:///secret", "/secret", "http://", "http://ann:secret@h:x"]
)
def test_what_is_no_address_of_a_server_is_refused(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(SettingsError, match="^MLFLOW_TRACKING_URI: .*; set it to the server's http:// or") as refusal:
        MlflowRegistry().read("tiny", timeout=1)
    assert "secret" not in str(refusal.value)
