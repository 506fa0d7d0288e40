"""Run this service in containers: `make up`, `make deploy`, `make down`, `make ps`, `make logs`.

`up` builds the images, starts all services and waits until they are healthy; SCALE=2 starts two replicas of the server,
DEV=1 adds reflection and debug logs. `deploy` changes to the version in model.lock without losing a call: new replicas
start first, then the old ones stop. `redeploy` does so if containers run. Both generations serve for OVERLAP=30
seconds: stock gRPC clients re-resolve DNS at most every 30 s. `down` removes the containers and keeps the volumes.
SCALE and ports are written to .env, so that plain `docker compose` commands agree.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence

from serving import TEMPLATE_VERSION
from serving.domain.errors import OperatorError
from serving.domain.settings import shared_settings
from serving.offline import project
from serving.offline.bootstrap import explain_missing, open_registry
from serving.offline.git_info import commit
from tools import engine
from tools.compose_setup import remember, settings

_OVERLAP_S = 30  # stock gRPC clients re-resolve DNS at most this often
_MAX_OVERLAP_S = 600
_MAX_SCALE = 32  # a deployment needs ports for old and new replicas at once
_BUILD_TIMEOUT_S = 1800.0
_UP_TIMEOUT_S = 180
_STOP_TIMEOUT_S = 60.0
_FETCH_TIMEOUT_S = 180.0
_LOG_LINES = "100"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.containers", description=__doc__)
    commands = {
        "up": Stack.up,
        "deploy": Stack.deploy,
        "redeploy": Stack.redeploy,
        "build": Stack.build,
        "ps": Stack.ps,
        "logs": Stack.logs,
        "down": Stack.down,
    }
    parser.add_argument("command", choices=commands)
    parser.add_argument("--scale", default=settings(project.ROOT).get("SCALE") or "1", help="replicas")
    overlap = os.environ.get("OVERLAP") or str(_OVERLAP_S)
    parser.add_argument("--overlap", default=overlap, help="seconds that old and new replicas serve together")
    parser.add_argument("--dev", action="store_true", default=os.environ.get("DEV", "") not in ("", "0"))
    options, words = parser.parse_known_args(arguments)
    if words and options.command not in ("build", "ps", "logs"):
        parser.error(f"unrecognized arguments: {' '.join(words)}")
    scale = _number("SCALE", options.scale, "number of replicas", 1, _MAX_SCALE)
    overlap_s = _number("OVERLAP", options.overlap, "number of seconds", 0, _MAX_OVERLAP_S)
    commands[options.command](Stack(scale, dev=options.dev, overlap_s=overlap_s, words=words))
    return 0


class Stack:
    """The containers of this repo; `words` are passed to Compose."""

    def __init__(self, scale: int, *, dev: bool, overlap_s: int, words: Sequence[str] = ()) -> None:
        self._scale = scale
        self._overlap_s = overlap_s
        self._words = words
        self._environment = {**os.environ, "TEMPLATE_VERSION": TEMPLATE_VERSION, "GIT_COMMIT": commit(project.ROOT)}
        self._environment.setdefault("MODEL_VERSION", "none")  # for commands that start nothing
        self._environment.pop("SCALE", None)
        if dev:
            files = settings(project.ROOT).get("COMPOSE_FILE") or "compose.yaml"
            self._environment["COMPOSE_FILE"] = os.pathsep.join([files, "compose/dev.yaml"])

    def up(self) -> None:
        """Build, start, wait until healthy."""
        self._pin()
        started = {"SCALE": str(self._scale)} | engine.ports(settings(project.ROOT), many=self._scale > 1)
        self._note(started)
        self.build()
        self._fetch()
        print(f"starting {self._scale} server(s), waiting until healthy ...")
        self._start(self._scale)
        self._say_where()

    def deploy(self) -> None:
        """Start one new replica per old one, wait until they are healthy, then stop the old ones."""
        self._pin()
        running = engine.replicas()
        old = [replica.container for replica in running]
        if not old:
            raise OperatorError("no containers run, so there is nothing to replace; use `make up`.")
        # What `fetch` must not remove: after failed deployments, this is not the version before the pinned one.
        self._environment["RUNNING_VERSIONS"] = " ".join(sorted({replica.version for replica in running}))
        self._note({"SCALE": str(len(old))} | engine.ports(settings(project.ROOT), many=True))
        self._fetch()
        print(f"starting {len(old)} replica(s) of {self._environment['MODEL_VERSION']} beside the old ones ...")
        self._start(2 * len(old), "--no-recreate")
        if self._overlap_s:
            print(f"both serve for {self._overlap_s} s, so that every client resolves the name again ...", flush=True)
            time.sleep(self._overlap_s)
        print("draining the old ones ...")
        engine.run(["docker", "stop", *old], self._environment, _STOP_TIMEOUT_S * len(old))
        engine.run(["docker", "rm", *old], self._environment, _STOP_TIMEOUT_S)
        self._start(len(old), "--no-recreate")
        self._say_where()

    def redeploy(self) -> None:
        """Deploy, if containers run."""
        if not engine.installed():
            print("docker is not installed, so no containers run: nothing to deploy")
            return
        try:
            running = engine.replicas()
        except OperatorError as error:
            raise OperatorError(f"model.lock has changed, but the containers can't be inspected: {error}") from None
        if not running:
            print("no containers of this repo run: nothing to deploy")
            return
        self.deploy()

    def build(self) -> None:
        """Build the images; show the progress in a terminal."""
        print("building the images ...", flush=True)
        started = time.monotonic()
        if engine.watched():
            self._show("build", *self._words, timeout=_BUILD_TIMEOUT_S)
        else:
            self._compose("build", "--quiet", *self._words, timeout=_BUILD_TIMEOUT_S)
        print(f"built in {time.monotonic() - started:.0f} s: {', '.join(engine.image_sizes())}")

    def ps(self) -> None:
        """List the containers."""
        self._every_profile()
        self._show("ps", *self._words, timeout=_STOP_TIMEOUT_S)

    def logs(self) -> None:
        """Show the last log lines; in a terminal, follow them until Ctrl-C."""
        self._every_profile()
        follow = ["--follow"] if sys.stdout.isatty() else []
        self._show("logs", *follow, "--tail", _LOG_LINES, *self._words, timeout=None if follow else _STOP_TIMEOUT_S)

    def down(self) -> None:
        """Stop and remove the containers and networks."""
        self._every_profile()
        self._compose("down", timeout=_STOP_TIMEOUT_S * 4)

    def _pin(self) -> None:
        """Pass the pinned reference to Compose."""
        self._environment["MODEL_VERSION"] = str(shared_settings().reference())

    def _note(self, values: Mapping[str, str]) -> None:
        """Use these values, and write them to .env for plain Compose commands."""
        self._environment |= values
        remember(project.ROOT, values)

    def _every_profile(self) -> None:
        self._environment["COMPOSE_PROFILES"] = "*"

    def _fetch(self) -> None:
        """Fetch the pinned version into the volume before anything starts or stops, so that a refusal is visible."""
        print(f"fetching {self._environment['MODEL_VERSION']} ...")
        try:
            self._compose("run", "--rm", "--no-deps", "--no-TTY", "fetch", timeout=_FETCH_TIMEOUT_S)
        except OperatorError:
            pinned = shared_settings().reference()
            explain_missing(pinned, open_registry(pinned.scheme, project.REGISTRY))
            raise

    def _start(self, scale: int, *options: str) -> None:
        wait = ["--detach", "--wait", "--wait-timeout", str(_UP_TIMEOUT_S)]
        scaled = ["--scale", f"{engine.SERVER}={scale}"]
        self._compose("up", *wait, *options, *scaled, timeout=_UP_TIMEOUT_S + _STOP_TIMEOUT_S)

    def _say_where(self) -> None:
        for replica in engine.replicas():
            print(f"serving on {replica.grpc}, metrics on http://{replica.metrics}/metrics")
        print(f"callers in containers join the network {engine.project_name()}_clients and call server:8001")

    def _compose(self, *arguments: str, timeout: float) -> str:
        return engine.run(["docker", "compose", *arguments], self._environment, timeout)

    def _show(self, *arguments: str, timeout: float | None) -> None:
        engine.show(["docker", "compose", *arguments], self._environment, timeout)


def _number(name: str, text: str, what: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise OperatorError(f"{name}={text} is not a {what}; give {least} to {most}.")
    return int(text)


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(main)
