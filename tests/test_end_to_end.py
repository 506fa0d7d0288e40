"""Generated repos pass their own checks, and their servers answer all kinds of clients."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import Block, Repo, blocks, generate, run
from tools import uv

STOP_TIMEOUT_S = 30.0
# In one process: the clients of two repos, and two packages that declare the same messages.
FOUR_CLIENTS = """
import json, sys
import diabetes_progression_client, fraud_score_client
import grpc, tritonclient.grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

first, second = sys.argv[1:]
sent = json.loads(sys.stdin.read())
stored = {name: sent.pop(name) for name in ("age", "sex", "bmi")}
answers = {}

with diabetes_progression_client.Client(first) as client:
    prediction = client.predict({"patient_id": ["patient-001"], **sent}, timeout=30)
    answers["with a store"] = prediction["progression"].tolist()
with fraud_score_client.Client(second) as client:
    answers["without"] = client.predict({**stored, **sent}, timeout=30)["progression"].tolist()

triton = tritonclient.grpc.InferenceServerClient(second)
metadata = triton.get_model_metadata("fraud-score", client_timeout=30)
inputs = []
for spec in metadata.inputs:
    import numpy
    values = numpy.array((stored | sent)[spec.name], dtype=numpy.float32)
    inputs.append(tritonclient.grpc.InferInput(spec.name, list(values.shape), spec.datatype))
    inputs[-1].set_data_from_numpy(values)
result = triton.infer("fraud-score", inputs, client_timeout=30)
answers["tritonclient"] = result.as_numpy("progression").tolist()

with grpc.insecure_channel(first) as channel:
    stub = health_pb2_grpc.HealthStub(channel)
    status = stub.Check(health_pb2.HealthCheckRequest(service=""), timeout=30).status
    answers["health"] = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
print(json.dumps(answers))
"""
PATIENT_001 = {
    "age": [59.0],
    "sex": [2.0],
    "bmi": [32.1],
    "blood_pressure": [101.0],
    "total_cholesterol": [157.0],
    "ldl": [93.2],
    "hdl": [38.0],
    "cholesterol_ratio": [4.0],
    "log_triglycerides": [4.8598],
    "glucose": [87.0],
}


@pytest.fixture(scope="session")
def environment_python(default_repo: Repo) -> str:
    """The interpreter of the default repo's environment; others may borrow it, as their locks are the same."""
    folder = "Scripts" if os.name == "nt" else "bin"
    return str(default_repo.path / ".venv" / folder / "python")


def borrowed(repo: Repo) -> dict[str, str]:
    """Return variables under which another repo's environment runs this repo's code."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(str(repo.path / name) for name in ("src", "client", "."))}


def module(python: str, repo: Repo, *words: str, cwd: Path | None = None) -> str:
    done = run([python, "-m", *words], cwd=cwd or repo.path, environment=borrowed(repo))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def served(command: list[str], repo: Repo) -> Iterator[str]:
    """Run a server on free ports, yield its address, stop it; it must exit with 0."""
    said: list[str] = []
    with subprocess.Popen(
        command,
        cwd=repo.path,
        env=borrowed(repo) | repo.free_ports,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stderr is not None
        for line in server.stderr:
            said.append(line)
            if "grpc_port" in line:
                break
        else:
            pytest.fail("the server ended:\n" + "".join(said))
        # Keep reading: a full pipe would block the server.
        reader = threading.Thread(target=said.extend, args=(server.stderr,))
        reader.start()
        try:
            yield f"localhost:{json.loads(line)['grpc_port']}"
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(timeout=STOP_TIMEOUT_S)
            reader.join()
    assert code == 0, "".join(said)


def unpacked_client(python: str, repo: Repo, folder: Path) -> None:
    """Build the client's wheel and unpack it into `folder`."""
    module(python, repo, "hatchling", "build", "--target", "wheel", "--directory", "dist", cwd=repo.path / "client")
    (wheel,) = (repo.path / "client" / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)


# All of its tests run where its README says so: test_generated_readme.py.
def test_the_default_repo_passes_its_own_checks_and_its_unit_tests(default_repo: Repo) -> None:
    default_repo.passes("check")
    default_repo.passes("test", "-q", "tests/platform/unit")


@pytest.mark.long
def test_its_server_survives_100_000_mutated_requests(default_repo: Repo) -> None:
    command = [sys.executable, "tools/tasks.py", "test", "-s", "tests/platform/integration/test_fuzz.py"]
    done = run(command, cwd=default_repo.path, environment=os.environ | {"SERVING_FUZZ": "100000"})
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_environment_has_no_conflicting_packages(environment_python: str, default_repo: Repo) -> None:
    done = run([uv.find(), "pip", "check", "--python", environment_python], cwd=default_repo.path)
    assert done.returncode == 0, done.stderr


def clients_page(repo: Repo) -> list[Block]:
    """Return the Python code that the client's README shows."""
    return [block for block in blocks(repo.text("client/README.md")) if block.language == "python"]


def test_the_fake_of_the_installed_client_works_as_its_page_says(
    default_repo: Repo, environment_python: str, tmp_path: Path
) -> None:
    unpacked_client(environment_python, default_repo, tmp_path)
    (block,) = [block for block in clients_page(default_repo) if "_client.testing" in block.text]
    done = run([environment_python, "-c", block.text], cwd=tmp_path, environment=os.environ | {"PYTHONPATH": "."})
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_four_clients_work_in_one_process(
    default_repo: Repo, environment_python: str, template: Path, tmp_path: Path
) -> None:
    other = generate(template, tmp_path / "other", {"project_slug": "fraud-score", "feature_store": "none"})
    default_repo.passes("train")
    (default_repo.path / "data" / "features.db").unlink(missing_ok=True)  # another test may have pushed values into it
    default_repo.passes("features")
    module(environment_python, other, "serving.offline.train")
    for repo in (default_repo, other):
        unpacked_client(environment_python, repo, tmp_path / "clients")
    own = [sys.executable, str(default_repo.path / "tools" / "tasks.py"), "run"]
    with served(own, default_repo) as first, served([environment_python, "-m", "tools.run"], other) as second:
        done = run(
            [sys.executable, "-c", FOUR_CLIENTS, first, second],
            cwd=tmp_path,
            environment=os.environ | {"PYTHONPATH": str(tmp_path / "clients")},
            stdin=json.dumps(PATIENT_001),
        )
        for block in clients_page(default_repo):
            shown = run(
                [sys.executable, "-c", block.text.replace("localhost:8001", first)],
                cwd=tmp_path,
                environment=os.environ | {"PYTHONPATH": str(tmp_path / "clients")},
            )
            assert shown.returncode == 0, shown.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    answers = json.loads(done.stdout)
    assert answers["health"] == "SERVING"
    # The same model on the same values, once looked up and once sent.
    assert answers["with a store"] == pytest.approx(answers["without"])
    assert answers["tritonclient"] == pytest.approx(answers["without"])


def test_without_a_feature_store_the_command_says_so(template: Path, tmp_path: Path) -> None:
    repo = generate(template, tmp_path / "none", {"feature_store": "none"})
    assert repo.passes("features").strip() == (
        "this repo has no feature store: callers send every feature with the request"
    )


def test_an_unknown_command_is_refused_with_a_list(template: Path, tmp_path: Path) -> None:
    repo = generate(template, tmp_path / "out", {})
    done = repo.command("launch")
    assert done.returncode == 2
    assert "error: 'launch' is not a command; the commands are help, setup" in done.stderr
