"""Start the development server beside this process: TensorFlow's own runtime, for laptops and tests."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from serving.adapters.runtime.tensorflow_serving.saved_model import unpack
from serving.adapters.runtime.tensorflow_serving.settings import CONFIG
from serving.domain.errors import ArtifactError, SettingsError, quoted

_PROGRAM = "tools.development_server"
_PROGRAM_FILE = Path("tools", "development_server.py")
_STOP_S = 5.0


class DevelopmentServer:
    """Serve one SavedModel in a process of its own until it is closed or this process ends."""

    def __init__(self, model: str, version: int, content: bytes) -> None:
        if not _PROGRAM_FILE.exists():
            raise SettingsError(
                f"{CONFIG} names the development server, which is not in this image; set SERVING_RUNTIME_URL."
            )
        self.folder = Path(tempfile.mkdtemp(prefix="development-server-"))
        try:
            unpack(content, self.folder / model / str(version))
        except ArtifactError:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self.address = f"localhost:{_free_port()}"
        self._log = (self.folder / "log").open("wb")
        command = [sys.executable, "-m", _PROGRAM, "--models", str(self.folder), "--address", self.address]
        # It ends when its input does, so it never outlives this process.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self._log, stderr=self._log)

    def failure(self) -> str:
        """Return the last line that it printed if it has ended; nothing while it runs."""
        if self._process.poll() is None:
            return ""
        lines = (self.folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return quoted(lines[-1], 200) if lines else f"exit code {self._process.returncode}"

    def close(self) -> None:
        """End it and delete its files; safe to call twice."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_S)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])
