"""The committed stubs match the .proto files, and coexist with other stubs of the same names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.domain.errors import OperatorError
from serving.offline import project
from tools import proto

IMPORTS = (
    "serving.online.grpc.proto.open_inference_pb2",
    "serving_client._proto.open_inference_pb2",
    "serving_client._proto.health_pb2",
    "tritonclient.grpc.service_pb2",
    "tritonclient.grpc",
    "grpc_health.v1.health_pb2",
)


def test_the_committed_stubs_are_up_to_date() -> None:
    assert proto.main(["--check"]) == 0


def test_an_outdated_stub_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "ROOT", tmp_path)
    monkeypatch.setattr(proto, "CLIENT", tmp_path)
    (tmp_path / "health_pb2.py").touch()
    with pytest.raises(OperatorError) as caught:
        proto.main(["--check"])
    assert str(caught.value) == "health_pb2.py, health_pb2.pyi differ from the .proto files; run `make proto`."


@pytest.mark.parametrize("order", [IMPORTS, IMPORTS[::-1]], ids=["ours first", "ours last"])
def test_stubs_of_the_same_messages_coexist_in_one_process(order: tuple[str, ...]) -> None:
    path = os.pathsep.join(str(project.ROOT / folder) for folder in ("src", "client"))
    done = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(order)}"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
