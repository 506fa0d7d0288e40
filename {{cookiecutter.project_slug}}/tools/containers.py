"""Run this service in containers: `make up`, `make deploy`, `make down`, `make ps`, `make logs`.

`up` builds the images, starts all services and waits until they are healthy; SCALE=2 starts two replicas of the server,
DEV=1 adds reflection and debug logs. If replicas run whose version, image or configuration has changed, it replaces
them as `deploy` does. `deploy` changes to the version in model.lock without losing a call: new replicas
start first, then the old ones stop. If one does not turn healthy, the new ones are removed and the old ones serve on.
Both generations serve for OVERLAP=30 seconds: stock gRPC clients that call the replicas by name, not the gateway,
re-resolve DNS at most every 30 s. `rollback` returns to the version that served before. `down` removes the containers
and keeps the volumes. SCALE is written to .env, so that plain `docker compose` commands agree; deployments.jsonl is the
history. One of these commands runs at a time; a second one is refused.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

from serving import TEMPLATE_VERSION
from serving.domain.errors import OperatorError, RegistryError
from serving.domain.references import Reference, read_lock
from serving.domain.settings import shared_settings
from serving.offline import model_version, project
from serving.offline.bootstrap import explain_missing, open_registry
from serving.offline.git_info import commit
from serving.offline.registry import CHAMPION
from tools import engine, gateway, replicas
from tools.compose_setup import remember, settings
from tools.deployment_lock import only_change
from tools.deployments import Deployments, Kind, Target
from tools.rollout import DEPLOYMENT, FOUND_TIMEOUT_S, HEALTH_TIMEOUT_S, Rollout

_OVERLAP_S = 30  # stock gRPC clients re-resolve DNS at most this often
_MAX_OVERLAP_S = 600
_MAX_SCALE = 32  # old and new replicas have 64 places in gateway/haproxy.cfg
_BUILD_TIMEOUT_S = 1800.0
_LOOK_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 60.0
_START_TIMEOUT_S = HEALTH_TIMEOUT_S + _STOP_TIMEOUT_S
_FETCH_TIMEOUT_S = 180.0
_LOG_LINES = "100"
_HISTORY = "deployments.jsonl"
_CHANGING = ("up", "deploy", "redeploy", "rollback", "down")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.containers", description=__doc__)
    commands = {
        "up": Stack.up,
        "deploy": Stack.deploy,
        "redeploy": Stack.redeploy,
        "rollback": Stack.rollback,
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
    if words and options.command not in ("build", "ps", "logs", "rollback"):
        parser.error(f"unrecognized arguments: {' '.join(words)}")
    scale = _number("SCALE", options.scale, "number of replicas", 1, _MAX_SCALE)
    overlap_s = _number("OVERLAP", options.overlap, "number of seconds", 0, _MAX_OVERLAP_S)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends a deployment as Ctrl-C does: nothing left over
    alone = only_change(project.ROOT / _HISTORY, options.command) if options.command in _CHANGING else nullcontext()
    with alone:
        commands[options.command](Stack(scale, dev=options.dev, overlap_s=overlap_s, words=words))
    return 0


class Stack:
    """The containers of this repo; `words` are passed to Compose."""

    def __init__(self, scale: int, *, dev: bool, overlap_s: int, words: Sequence[str] = ()) -> None:
        self._scale = scale
        self._overlap_s = overlap_s
        self._history = Deployments(project.ROOT / _HISTORY)
        self._words = words
        self._environment = {**os.environ, "TEMPLATE_VERSION": TEMPLATE_VERSION, "GIT_COMMIT": commit(project.ROOT)}
        self._environment.setdefault("MODEL_VERSION", "none")  # for commands that start nothing
        self._environment.pop("SCALE", None)
        if dev:
            files = settings(project.ROOT).get("COMPOSE_FILE") or "compose.yaml"
            self._environment["COMPOSE_FILE"] = os.pathsep.join([files, "compose/dev.yaml"])

    def up(self) -> None:
        """Build, start, wait until healthy; replicas that have changed are replaced as by `deploy`.

        Compose would recreate all of them at once if version, image or configuration differ.
        """
        self._pin()
        self.build()
        current = self._history.current()
        replaces = current is not None and current.reference != self._environment["MODEL_VERSION"]
        serves = any(replica.healthy for replica in replicas.every())
        if serves and (replaces or self._outdated()):
            self._converge(self._scale)
            if self._outdated():  # an interrupted deployment was continued, and the image is newer than that
                self._converge(self._scale)
            self._start_others()
            self._say_where()
            return
        label = settings(project.ROOT).get(DEPLOYMENT, "")  # a new one recreates the replicas
        target = Target(secrets.token_hex(4) if replaces else label, self._environment["MODEL_VERSION"], self._scale)
        self._note({"SCALE": str(self._scale), DEPLOYMENT: target.deployment})
        self._history.record(Kind.TARGET, target)
        self._fetch()
        self._rollout().remove_strays()
        if serves:
            self._start_others()
        print(f"starting {self._scale} server(s), waiting until healthy ...")
        wait = ["--detach", "--wait", "--wait-timeout", str(HEALTH_TIMEOUT_S)]
        self._compose("up", *wait, "--scale", f"{engine.SERVER}={self._scale}", timeout=_START_TIMEOUT_S)
        self._history.record(Kind.SERVING, target)
        self._history.record(Kind.DONE, target)
        self._say_where()

    def deploy(self, *, returns: bool = False) -> None:
        """Start new replicas, wait until they are healthy, then stop the old ones."""
        self._pin()
        running = replicas.running()
        if not running:
            raise OperatorError("no containers run, so there is nothing to replace; use `make up`.")
        current = self._history.current()
        known = [replica for replica in running if current and replica.deployment == current.deployment]
        self._converge(max(len(known), current.replicas) if current and known else len(running), returns=returns)
        self._say_where()

    def redeploy(self) -> None:
        """Deploy, if containers run."""
        if self._runs():
            self.deploy()

    def rollback(self) -> None:
        """Return to the version that served before; with words, or if nothing runs, to the one promoted before."""
        current = self._history.current()
        if self._words or current is None or not self._runs():
            model_version.main(["rollback", *self._words])
            self.redeploy()
            return
        pinned = str(read_lock(project.LOCK))
        goal = current.reference if pinned != current.reference else self._history.before()
        if goal is None:
            raise OperatorError(
                f"{current.reference} is the first version that these containers served, so there is none to "
                "return to; `make promote` takes a version by name."
            )
        if goal != pinned:
            _pin_again(Reference.parse(goal))
        self._pin()
        serving = [replica for replica in replicas.every() if replica.deployment == current.deployment]
        if serving and all(replica.healthy and replica.version == goal for replica in serving):
            self._rollout().finish(current)
            print(f"{goal} serves on: {len(serving)} replica(s), none was replaced")
            return
        self.deploy(returns=True)

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
        gateway.refuse_renamed(settings(project.ROOT))
        self._environment["MODEL_VERSION"] = str(shared_settings().reference())

    def _runs(self) -> bool:
        """Return whether containers run; say so if none do."""
        if not engine.installed():
            print("docker is not installed, so no containers run: nothing to deploy")
            return False
        try:
            running = replicas.running()
        except OperatorError as error:
            raise OperatorError(f"model.lock has changed, but the containers can't be inspected: {error}") from None
        if not running:
            print("no containers of this repo run: nothing to deploy")
        return bool(running)

    def _converge(self, count: int, *, returns: bool = False) -> None:
        """Replace all replicas by `count` of the pinned version."""
        rollout, pinned = self._rollout(), self._environment["MODEL_VERSION"]
        target = rollout.converge(pinned, count, overlap_s=self._overlap_s, returns=returns)
        self._note({"SCALE": str(target.replicas), DEPLOYMENT: target.deployment})
        print("draining the old ones ...")
        rollout.finish(target)

    def _outdated(self) -> bool:
        """Return whether Compose would recreate a healthy replica: its image or its configuration has changed."""
        config = self._compose("config", "--hash", engine.SERVER, timeout=_LOOK_TIMEOUT_S).split()[-1]
        healthy = [replica for replica in replicas.every() if replica.healthy]
        return any(known.config != config or known.image != engine.image_id(known.image_name) for known in healthy)

    def _start_others(self) -> None:
        """Start the other services, and recreate those that have changed."""
        services = self._compose("config", "--services", timeout=_LOOK_TIMEOUT_S).split()
        others = [name for name in services if name != engine.SERVER]
        # Compose stops the servers while it recreates what they depend on, if it knows of them.
        self._compose("up", "--detach", "--no-deps", *others, timeout=_START_TIMEOUT_S)

    def _rollout(self) -> Rollout:
        def fetch(running: str) -> None:
            # What `fetch` must not remove: after failed deployments, this is not the version before the pinned one.
            self._environment["RUNNING_VERSIONS"] = running
            self._fetch()

        def start(*options: str, **variables: str) -> None:
            self._environment |= variables
            self._compose("up", "--detach", *options, timeout=_START_TIMEOUT_S)

        return Rollout(self._history, fetch, start)

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

    def _say_where(self) -> None:
        known = gateway.await_replicas(len(replicas.running()), "metrics", FOUND_TIMEOUT_S)
        if (found := gateway.find()) and found.grpc:
            print(f"serving on {found.grpc}: each call goes to the next replica")
            paths = ", ".join(f"/metrics/{number}" for number in known)
            print(f"metrics of the replicas on http://{found.metrics} at {paths}; of the gateway at /metrics")
        network = f"{engine.project_name()}_clients"
        print(f"callers in containers join the network {network} and call gateway:8001")
        print("or, to balance calls by themselves, server:8001")

    def _compose(self, *arguments: str, timeout: float) -> str:
        return engine.run(["docker", "compose", *arguments], self._environment, timeout)

    def _show(self, *arguments: str, timeout: float | None) -> None:
        engine.show(["docker", "compose", *arguments], self._environment, timeout)


def _pin_again(goal: Reference) -> None:
    """Make a version the champion that was it before, and pin it."""
    try:
        steps_back = open_registry(goal.scheme, project.REGISTRY).previous(goal.model, CHAMPION) == goal
    except RegistryError:
        steps_back = False
    model_version.main(["rollback"] if steps_back else ["promote", str(goal)])


def _number(name: str, text: str, what: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise OperatorError(f"{name}={text} is not a {what}; give {least} to {most}.")
    return int(text)


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(main)
