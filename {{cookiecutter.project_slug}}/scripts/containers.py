"""Run this service in containers: `make up`, `make deploy`, `make down`.

`up` builds the images, creates missing secrets, starts everything and waits until it is healthy; SCALE=2 gives two
replicas of the server, DEV=1 puts this folder's source into the container and runs it as its owner. `deploy` changes to
the version in model.lock without losing a call: new replicas first, then the old ones go; `redeploy` does so if there
are containers at all. Both serve side by side for OVERLAP=30 seconds: for so long, a gRPC client without this repo's
options does not look a name up again. `down` removes the containers and leaves the volumes.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts import project
from scripts.git import commit
from scripts.registries import explain_missing, open_registry
from serving import TEMPLATE_VERSION
from serving.errors import StartError
from serving.settings import load_settings

SERVER = "server"
SECRETS = project.ROOT / "secrets"
CONTAINER_USER = 65532

_PUBLISHED = "compose/publish*.yaml"  # what this machine, and no container, uses to reach a service
_ONE_PORT = {"GRPC_PORTS": "8001", "METRICS_PORTS": "8002"}
_MANY_PORTS = {"GRPC_PORTS": "8001-8064", "METRICS_PORTS": "8101-8164"}
_OVERLAP_S = 30  # gRPC's own limit between two look-ups of a name
_MAX_OVERLAP_S = 600
_MAX_SCALE = 32  # a deployment needs a port for the old and the new replicas at once
_SECRET_BYTES = 32
_BUILD_TIMEOUT_S = 1800.0
_UP_TIMEOUT_S = 180
_STOP_TIMEOUT_S = 60.0
_FETCH_TIMEOUT_S = 180.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.containers", description=__doc__)
    parser.add_argument("verb", choices=("up", "deploy", "redeploy", "down"))
    parser.add_argument("--scale", type=int, default=os.environ.get("SCALE") or "1", help="replicas of the server")
    overlap = os.environ.get("OVERLAP") or str(_OVERLAP_S)
    parser.add_argument("--overlap", type=int, default=overlap, help="seconds that old and new replicas serve together")
    parser.add_argument("--dev", action="store_true", default=os.environ.get("DEV", "") not in ("", "0"))
    options = parser.parse_args(arguments)
    if options.verb == "redeploy" and shutil.which("docker") is None:
        print("docker is not installed, so no containers run: nothing to deploy")
        return 0
    stack = Stack(options.scale, dev=options.dev, overlap=options.overlap)
    {"up": stack.up, "deploy": stack.deploy, "redeploy": stack.redeploy, "down": stack.down}[options.verb]()
    return 0


class Stack:
    """The containers of this repo; every answer of the engine is waited for, within a bound."""

    def __init__(self, scale: int, *, dev: bool, overlap: int) -> None:
        if not 1 <= scale <= _MAX_SCALE:
            raise StartError(f"SCALE={scale} is no number of replicas; give 1 to {_MAX_SCALE}.")
        if not 0 <= overlap <= _MAX_OVERLAP_S:
            raise StartError(f"OVERLAP={overlap} is no number of seconds; give 0 to {_MAX_OVERLAP_S}.")
        if shutil.which("docker") is None:
            raise StartError("docker is not installed; `make run` serves without containers.")
        self._scale = scale
        self._overlap_s = overlap
        published = sorted(path.relative_to(project.ROOT).as_posix() for path in project.ROOT.glob(_PUBLISHED))
        self._files = ["compose.yaml", *published, *(["compose/dev.yaml"] if dev else [])]
        self._environment = {**os.environ, "TEMPLATE_VERSION": TEMPLATE_VERSION, "GIT_COMMIT": commit(project.ROOT)}
        self._environment.setdefault("MODEL_VERSION", "none")
        if dev:
            self._environment["DEV_USER"] = _owner(project.ROOT)
        self._environment |= _ONE_PORT if scale == 1 else _MANY_PORTS

    def up(self) -> None:
        """Build, create secrets, start, wait until healthy."""
        self._pin()
        self._create_secrets()
        print("building the images ...")
        self._compose("build", "--quiet", timeout=_BUILD_TIMEOUT_S)
        self._fetch()
        print(f"starting {self._scale} server(s), waiting until healthy ...")
        self._start(self._scale)
        for address in self.addresses():
            print(f"serving on {address}")

    def deploy(self) -> None:
        """Start as many new replicas as there are old ones, wait until they are healthy, then stop the old."""
        self._pin()
        self._environment |= _MANY_PORTS
        old = self._containers()
        if not old:
            raise StartError("nothing runs that could be replaced; use `make up`.")
        self._fetch()
        print(f"starting {len(old)} replica(s) of {self._environment['MODEL_VERSION']} beside the old ...")
        self._start(2 * len(old), "--no-recreate")
        if self._overlap_s:
            print(f"both serve for {self._overlap_s} s, until every client may look the name up again ...", flush=True)
            time.sleep(self._overlap_s)
        print("draining the old ...")
        _run(["docker", "stop", *old], self._environment, _STOP_TIMEOUT_S * len(old))
        _run(["docker", "rm", *old], self._environment, _STOP_TIMEOUT_S)
        self._start(len(old), "--no-recreate")
        for address in self.addresses():
            print(f"serving on {address}")

    def redeploy(self) -> None:
        """Deploy if something runs that could be replaced."""
        try:
            running = self._containers()
        except StartError as error:
            raise StartError(f"model.lock is changed, but the containers could not be looked at: {error}") from None
        if not running:
            print("no containers of this repo run: nothing to deploy")
            return
        self.deploy()

    def down(self) -> None:
        """Stop and remove the containers and networks."""
        self._compose("down", timeout=_STOP_TIMEOUT_S * 4)

    def addresses(self) -> list[str]:
        """Return the gRPC addresses of all replicas on this machine."""
        found = []
        for container in self._containers():
            ports = _run(["docker", "port", container, "8001/tcp"], self._environment, _STOP_TIMEOUT_S)
            found.append(ports.splitlines()[0])
        return found

    def _pin(self) -> None:
        """Hand the pinned reference to Compose."""
        self._environment["MODEL_VERSION"] = str(load_settings().reference())
        project.REGISTRY.mkdir(exist_ok=True)

    def _fetch(self) -> None:
        """Bring the pinned version to the volume before anything is started or stopped; here a refusal can be read."""
        print(f"fetching {self._environment['MODEL_VERSION']} ...")
        try:
            self._compose("run", "--rm", "--no-deps", "--no-TTY", "fetch", timeout=_FETCH_TIMEOUT_S)
        except StartError:
            pinned = load_settings().reference()
            explain_missing(pinned, open_registry(pinned.scheme, project.REGISTRY))
            raise

    def _create_secrets(self) -> None:
        """Create each secret file that Compose names and that is missing, readable in the container, not beside it.

        One that somebody else gives is made empty, since Compose starts nothing without the file.
        """
        config = json.loads(self._compose("config", "--format", "json", timeout=_STOP_TIMEOUT_S))
        for secret, giver in _secrets_of(config):
            if secret.exists():
                continue
            secret.parent.mkdir(mode=0o700, exist_ok=True)
            secret.write_text("" if giver else secrets.token_urlsafe(_SECRET_BYTES), encoding="utf-8")
            secret.chmod(0o444)  # the container's user is neither owner nor group; the folder keeps others out
            print(f"created {secret.relative_to(project.ROOT)}" + (f", empty: {giver} gives it" if giver else ""))

    def _start(self, scale: int, *options: str) -> None:
        wait = ["--detach", "--wait", "--wait-timeout", str(_UP_TIMEOUT_S)]
        scaled = ["--scale", f"{SERVER}={scale}"]
        self._compose("up", *wait, *options, *scaled, timeout=_UP_TIMEOUT_S + _STOP_TIMEOUT_S)

    def _containers(self) -> list[str]:
        return self._compose("ps", "--quiet", SERVER, timeout=_STOP_TIMEOUT_S).split()

    def _compose(self, *arguments: str, timeout: float) -> str:
        files = [word for file in self._files for word in ("--file", file)]
        return _run(["docker", "compose", *files, *arguments], self._environment, timeout)


def _secrets_of(config: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """Return the file of each secret, and who gives it if it is not ours to make up."""
    found = [secret for secret in config.get("secrets", {}).values() if "file" in secret]
    return [(Path(secret["file"]), secret.get("labels", {}).get("given-by", "")) for secret in found]


def _owner(folder: Path) -> str:
    """Return uid:gid of a folder's owner; instead of root's, since no container runs as root, the image's user."""
    stat = folder.stat()
    if stat.st_uid != 0:
        return f"{stat.st_uid}:{stat.st_gid}"
    print(f"this folder belongs to root: the container runs as {CONTAINER_USER} instead")
    return f"{CONTAINER_USER}:{CONTAINER_USER}"


def _run(command: Sequence[str], environment: Mapping[str, str], timeout: float) -> str:
    try:
        done = subprocess.run(
            command, cwd=project.ROOT, env=environment, capture_output=True, text=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise StartError(f"`{' '.join(command)}` did not end within {timeout:.0f} s.") from None
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-8:])
        raise StartError(f"`{' '.join(command)}` failed:\n{last}")
    return done.stdout


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(main)
