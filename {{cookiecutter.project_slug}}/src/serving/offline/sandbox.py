"""Run a program that nobody trusts in a container: no network, nothing writable, another user, bounded memory.

A pickle is such a program. What it can still do is use a processor until the time is up, and answer wrongly; what it
answers is parsed, compared with the rows and never run. The container shares the kernel of this machine.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from serving.domain.errors import OperatorError
from serving.offline import project

_DOCKERFILE = project.ROOT / "import.Dockerfile"
_LOCK = project.ROOT / "requirements" / "import.txt"
_RIGHTS = (
    "--network=none",
    "--read-only",
    "--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=1g",
    "--user=65532:65532",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges:true",
    "--pids-limit=128",
    "--memory=4g",
    "--memory-swap=4g",
    "--log-driver=none",
)
_LOOK_S, _BUILD_S = 10.0, 1800.0
_LARGEST_ANSWER = 2 << 30
_TAIL_LINES = 8


def available() -> bool:
    """Return whether a container engine answers."""
    if shutil.which("docker") is None:
        return False
    try:
        return subprocess.run(["docker", "version"], capture_output=True, check=False, timeout=_LOOK_S).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def run(folder: Path, arguments: Sequence[str], *, timeout: float) -> bytes:
    """Run `serving.offline.unpickle` with a folder that it reads as /given; return what it writes to its output.

    :raises OperatorError: the image can't be built, the program did not end in time, or it wrote too much
    """
    image = _built()
    mount = f"--mount=type=bind,source={folder.resolve()},target=/given,readonly"
    program = ("python", "-m", "serving.offline.unpickle")
    container = _docker("create", *_RIGHTS, mount, image, *program, *arguments, timeout=_LOOK_S).strip()
    try:
        with subprocess.Popen(
            ["docker", "start", "--attach", container], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            late = threading.Event()

            def end() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(timeout, end)
            timer.start()
            try:
                answer = process.stdout.read(_LARGEST_ANSWER + 1) if process.stdout else b""
            finally:
                timer.cancel()
                process.kill()
        if late.is_set():
            raise OperatorError(f"was not opened and converted within {timeout:g} s.")
        if len(answer) > _LARGEST_ANSWER:
            raise OperatorError(f"wrote more than {_LARGEST_ANSWER} bytes.")
        if not answer:
            code = _docker("inspect", "--format={{.State.ExitCode}}", container, timeout=_LOOK_S).strip()
            raise OperatorError(f"its container ended with code {code} and without an answer (137: out of memory).")
        return answer
    finally:
        _docker("rm", "--force", container, timeout=_LOOK_S)


def _built() -> str:
    """Return the image, built if it is not there in this version."""
    parts = [_DOCKERFILE, _LOCK, *sorted((project.ROOT / "src").rglob("*.py"))]
    version = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:12]
    image = f"{project.service()['name']}-import:{version}"
    found = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False, timeout=_LOOK_S)
    if found.returncode:
        print("building the image that opens pickles, once ...", flush=True)
        _docker("build", "--quiet", f"--file={_DOCKERFILE}", f"--tag={image}", str(project.ROOT), timeout=_BUILD_S)
    return image


def _docker(*arguments: str, timeout: float) -> str:
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise OperatorError(f"`docker {arguments[0]}` did not finish within {timeout:.0f} s.") from None
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-_TAIL_LINES:])
        raise OperatorError(f"`docker {arguments[0]}` failed: {last}")
    return done.stdout
