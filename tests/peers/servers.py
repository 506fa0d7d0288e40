"""MLServer and `mlflow models serve`, from the package index, each in its own environment and process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from local_extensions import ROOT_FOLDER
from tests.support import ROOT
from tools.environment import Environment

# MLflow imports a lot; on a busy machine 40 s were seen.
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
HOST = "127.0.0.1"
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"


def mlserver_python() -> Path:
    """Make the environment of MLServer 1.7.1; it has tritonclient too."""
    locks = [REQUIREMENTS / "mlserver.txt", REQUIREMENTS / "mlserver_xgboost.txt"]
    return Environment(ROOT / "build" / "peers" / "mlserver" / ".venv").ensure(locks)


def mlflow_python() -> Path:
    """Make the environment of MLflow: what the choice mlflow has for its server, and XGBoost."""
    image = ROOT / ROOT_FOLDER / "_variants" / "model_registry" / "mlflow" / "mlflow-server"
    locks = [image / "requirements" / "server.txt", REQUIREMENTS / "mlflow_models.txt"]
    return Environment(ROOT / "build" / "peers" / "mlflow" / ".venv").ensure(locks)


@contextmanager
def mlserver(models: Path) -> Iterator[str]:
    """Serve a folder of models; yield the address of its gRPC."""
    ports = dict(zip(("grpc_port", "http_port", "metrics_port"), _free_ports(3), strict=True))
    settings = {"host": HOST, "parallel_workers": 0, **ports}
    (models / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    names = [settings.parent.name for settings in models.glob("*/model-settings.json")]
    ready = ["gRPC server running on", *(f"Loaded model '{name}'" for name in names)]
    with _running([str(mlserver_python().with_name("mlserver")), "start", str(models)], models, ready):
        yield f"{HOST}:{ports['grpc_port']}"


@contextmanager
def mlflow_models_serve(model: Path) -> Iterator[str]:
    """Serve a model folder of MLflow; yield its address."""
    (port,) = _free_ports(1)
    scripts = mlflow_python().parent
    command = [*(str(scripts / "mlflow"), "models", "serve", "--model-uri", str(model)), "--env-manager", "local"]
    variables = {
        "PATH": os.pathsep.join([str(scripts), os.environ["PATH"]]),  # it starts uvicorn by its name
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with _running([*command, "--host", HOST, "--port", str(port)], model, ["Uvicorn running on"], variables):
        yield f"http://{HOST}:{port}"


@contextmanager
def _running(
    command: Sequence[str], folder: Path, ready: Collection[str], variables: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server until the block ends; the block begins when it has printed all of `ready`."""
    said: list[str] = []
    missing = set(ready)
    with subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | dict(variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # it starts child processes; they end with it
    ) as process:
        assert process.stdout is not None
        late = threading.Timer(START_TIMEOUT_S, _end, [process, signal.SIGKILL])
        late.start()
        try:
            for line in process.stdout:
                said.append(line)
                missing -= {text for text in missing if text in line}
                if not missing:
                    break
            late.cancel()
            assert not missing, f"{command[0]} did not start:\n{''.join(said)[-3000:]}"
            # Keep reading: a full pipe would block the server.
            reader = threading.Thread(target=said.extend, args=(process.stdout,))
            reader.start()
            yield
            _end(process, signal.SIGTERM)
            reader.join(STOP_TIMEOUT_S)
        finally:
            late.cancel()
            _end(process, signal.SIGKILL)


def _end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
        process.wait(STOP_TIMEOUT_S)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        return


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
