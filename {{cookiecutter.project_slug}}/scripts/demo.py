"""Serve the pinned version on a free port, ask it for predictions, stop it: the last step of `make demo`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import IO, cast

from scripts import predict, project
from scripts.registries import fetch
from serving.errors import StartError
from serving.settings import load_settings

_STOP_S = 20.0


def main() -> int:
    """Return the exit code of the whole round."""
    settings = load_settings()
    fetch(settings.reference(), project.REGISTRY, settings.artifacts)
    environment = os.environ | {"SERVING_GRPC_PORT": "0", "SERVING_METRICS_PORT": "0", "SERVING_LOG_LEVEL": "INFO"}
    print("starting the server on a free port ...")
    server = subprocess.Popen([sys.executable, "-m", "serving"], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        target = f"localhost:{_port(cast('IO[str]', server.stderr))}"
        print(f"asking {target} ...")
        return predict.main(["--target", target])
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=_STOP_S)


def _port(log: IO[str]) -> int:
    """Wait for the line in which the server says where it listens; its end of output ends the wait."""
    lines = []
    for line in log:
        lines.append(line)
        record = json.loads(line) if line.startswith("{") else {}
        if "grpc_port" in record:
            return int(record["grpc_port"])
    raise StartError("the server did not start; it said: " + "".join(lines[-3:]).strip())


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(main)
