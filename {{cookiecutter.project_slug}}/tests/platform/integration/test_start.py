from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from serving.domain.artifacts import artifact_folder
from serving.domain.references import Reference, write_lock
from serving.online.grpc.proto import open_inference_pb2 as pb
from tests.platform.support.artifacts import tiny
from tests.platform.support.server import ServerProcess
from tests.platform.support.wire import NOT_SERVING, SERVING, Wire, floats, request

BODY = request("tiny", {"base": [1.0], "value": [2.0]})
MISSING = Reference.parse(f"local:tiny/9#sha256={'0' * 64}")


def no_lock(folder: Path) -> str:
    return ""


def no_artifact(folder: Path) -> str:
    write_lock(folder / "model.lock", MISSING)
    return str(MISSING)


def corrupt(folder: Path) -> str:
    reference = tiny().lay_out(folder)
    model = artifact_folder(folder / "artifacts", reference.digest) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    return str(reference)


def unlisted(folder: Path) -> str:
    reference = tiny().lay_out(folder)
    (artifact_folder(folder / "artifacts", reference.digest) / "weights.bin").write_bytes(b"")
    return str(reference)


@pytest.mark.parametrize(
    ("prepare", "logged"),
    [
        (no_lock, "model.lock: pins no model version yet; run `make train`."),
        (no_artifact, f"{MISSING}: is not in artifacts; fetch it with"),
        (corrupt, "model.onnx: sha256 is "),
        (unlisted, "holds 'weights.bin', which the manifest sha256="),
    ],
)
async def test_without_a_verified_model_the_server_stays_up_not_serving_and_names_the_reference(
    folder: Path, prepare: Callable[[Path], str], logged: str
) -> None:
    reference = prepare(folder)
    with ServerProcess(folder) as server:
        async with Wire(server.target) as wire:
            assert pb.ServerLiveResponse.FromString(await wire.call("ServerLive", b"")).live
            assert await wire.status() == NOT_SERVING
            code, text = await wire.refused("ModelInfer", BODY.SerializeToString())
        assert code is grpc.StatusCode.UNAVAILABLE
        assert reference in text
        assert str(folder) not in text
        (record,) = (json.loads(line) for line in server.lines if '"ERROR"' in line)
        assert reference in record["message"]
        assert logged in record["message"]
        assert server.metrics()["serving_ready"] == 0
        assert server.running
        assert "Traceback" not in server.log


async def test_a_verified_model_is_served_from_a_reference_in_the_environment(folder: Path) -> None:
    old, new = tiny().lay_out(folder, "1"), tiny().lay_out(folder, "2")
    write_lock(folder / "model.lock", old)
    with ServerProcess(folder, MODEL_VERSION=str(new)) as server:
        async with Wire(server.target) as wire:
            assert await wire.status() == SERVING
            answer = await wire.infer(BODY)
    assert floats(answer) == [3.0]
    assert answer.model_version == "2"


async def test_a_second_server_on_the_same_port_fails_loudly_and_the_first_serves_on(folder: Path) -> None:
    tiny().lay_out(folder)
    with ServerProcess(folder) as first:
        port = str(first.wait_until_listening()["grpc_port"])
        with ServerProcess(folder, SERVING_GRPC_PORT=port) as second:
            assert second.wait() == 1
        assert second.lines[-1] == (
            f"error: SERVING_GRPC_PORT={port}: can't listen on 127.0.0.1:{port}; "
            "another process uses the port, perhaps your own `make run`; stop it or choose another port.\n"
        )
        assert "Traceback" not in second.log
        async with Wire(first.target) as wire:
            assert floats(await wire.infer(BODY)) == [3.0]


def test_a_metrics_port_that_is_taken_fails_as_loudly(folder: Path) -> None:
    tiny().lay_out(folder)
    with ServerProcess(folder) as first:
        port = str(first.wait_until_listening()["metrics_port"])
        with ServerProcess(folder, SERVING_METRICS_PORT=port) as second:
            assert second.wait() == 1
        assert second.lines[-1].startswith(f"error: SERVING_METRICS_PORT={port}: can't listen on 127.0.0.1:{port}; ")
        assert second.lines[-1].endswith(
            "another process uses the port, perhaps your own `make run`; stop it or choose another port.\n"
        )


def test_a_wrong_setting_ends_the_server_with_one_sentence(folder: Path) -> None:
    with ServerProcess(folder, SERVING_MAX_ROWS="many", SERVING_TYPO="1") as server:
        assert server.wait() == 1
    (line,) = server.lines
    assert line.startswith("error: SERVING_TYPO is not a setting")
    assert "SERVING_MAX_ROWS='many': " in line


@pytest.fixture
def read_only(folder: Path) -> Iterator[list[Path]]:
    """Write a model and revoke the right to write; return the files."""
    tiny().lay_out(folder)
    paths = [folder, *sorted(folder.rglob("*"))]
    for path in paths:
        path.chmod(0o500 if path.is_dir() else 0o400)
    yield paths
    for path in paths:
        path.chmod(0o700)


def test_a_read_only_folder_is_enough_to_serve_from(folder: Path, read_only: list[Path]) -> None:
    with ServerProcess(folder) as server:
        assert server.metrics()["serving_ready"] == 1
    assert [folder, *sorted(folder.rglob("*"))] == read_only
