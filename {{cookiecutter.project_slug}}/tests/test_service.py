"""A smoke test: the model is trained, served and called, and answers as in training."""

from __future__ import annotations

from tests.platform.support.server import ServerProcess
from tests.platform.support.workspace import Workspace


def test_the_service_answers_as_the_model_did_in_training(example: Workspace, example_server: ServerProcess) -> None:
    printed = example.printed("tools.predict", "--target", example_server.target)
    assert "answered by" in printed
