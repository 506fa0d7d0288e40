"""Versions and settings with which a new replica never turns healthy, each for its own cause."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.containers.stack import Stack
from tests.support import run

# The health check of the image, but faster.
QUICK = "healthcheck: {interval: 1s, timeout: 5s, start_period: 5s, retries: 2}"
# Cause: lines of a Compose file for the server.
SETTINGS = {
    "memory limit": "mem_limit: 24m",
    "does not start": "command: [python, -c, 'raise SystemExit(3)']",
    "health check": "healthcheck: {test: [CMD, 'false'], interval: 1s, start_period: 1s, retries: 2}",
}
GOLDEN_ROWS = "golden rows"
CAUSES = (GOLDEN_ROWS, *SETTINGS)


@contextmanager
def broken(stack: Stack, cause: str) -> Iterator[dict[str, str]]:
    """Yield variables for a command, with which new replicas fail for this cause."""
    file = stack.repo.path / "compose" / "broken.yaml"
    file.write_text(f"services:\n  server:\n    {SETTINGS.get(cause, QUICK)}\n", encoding="utf-8")
    try:
        yield {"COMPOSE_FILE": "compose.yaml:compose/broken.yaml"}
    finally:
        file.unlink()


def pin_other_golden_rows(stack: Stack) -> None:
    """Register and promote a copy of the pinned version whose golden rows have other answers."""
    digest = stack.repo.text("model.lock").rpartition("sha256=")[2].strip()
    folder = Path(shutil.copytree(stack.repo.path / "artifacts" / digest, stack.repo.path / "build" / "other-rows"))
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    for rows in golden["outputs"].values():
        rows[0] += 1000.0
    content = json.dumps(golden).encode()
    (folder / "golden.json").chmod(0o644)
    (folder / "golden.json").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["golden.json"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    text = json.dumps(manifest).encode()
    (folder / "manifest.json").chmod(0o644)
    (folder / "manifest.json").write_bytes(text)
    python = str(stack.repo.path / ".venv" / "bin" / "python")
    words = ["register", str(folder), f"sha256={hashlib.sha256(text).hexdigest()}"]
    done = run([python, "-m", "serving.offline.model_version", *words], cwd=stack.repo.path)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder)
    stack.command("promote", done.stdout.strip())
