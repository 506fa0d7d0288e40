"""The containers of a generated repo, used as a user would and inspected from outside."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import Repo, generate, run

# The repos that run in containers: every choice of every question is in one of them, every Python included.
STACKS: dict[str, dict[str, str]] = {
    "container-test": {
        "feature_store": "redis",
        "model_registry": "neptune",
        "runtime": "onnx",
        "grpc_transport": "grpcio",
        "rest_api": "none",
        "deployment": "kubernetes",
        "ci": "github",
        "python_version": "3.13",
    },
    "feast-test": {
        "feature_store": "feast",
        "model_registry": "local",
        "runtime": "onnx",
        "grpc_transport": "native",
        "rest_api": "none",
        "deployment": "kserve",
        "ci": "gitlab",
        "python_version": "3.14",
    },
    "mlflow-test": {
        "feature_store": "none",
        "model_registry": "mlflow",
        "runtime": "onnx",
        "grpc_transport": "grpcio",
        "rest_api": "open-inference",
        "deployment": "compose",
        "ci": "none",
        "python_version": "3.11",
    },
    "neptune-test": {
        "feature_store": "none",
        "model_registry": "neptune",
        "runtime": "onnx",
        "grpc_transport": "grpcio",
        "rest_api": "none",
        "deployment": "compose",
        "ci": "github",
        "python_version": "3.12",
    },
    "plain-test": {
        "feature_store": "sqlite",
        "model_registry": "local",
        "runtime": "python",
        "grpc_transport": "native",
        "rest_api": "open-inference",
        "deployment": "kubernetes",
        "ci": "gitlab",
        "python_version": "3.14",
    },
    "tensorflow-test": {
        "feature_store": "none",
        "model_registry": "local",
        "runtime": "tensorflow-serving",
        "grpc_transport": "grpcio",
        "rest_api": "none",
        "deployment": "kubernetes",
        "ci": "none",
        "python_version": "3.13",
    },
}
LOAD = Path(__file__).with_name("load.py")
RIGHTS = Path(__file__).with_name("rights.py")
SAME_ANSWERS = Path(__file__).with_name("same_answers.py")
# Commands that no user of the feature store may run on any key.
_DELETE = ["DEL", "KEY"]
FORBIDDEN = [
    line.split()
    for line in """
        FLUSHALL
        FLUSHDB
        CONFIG GET *
        CONFIG SET maxmemory 1
        KEYS *
        DEL KEY
        UNLINK KEY
        EXPIRE KEY 1
        RENAME KEY KEY
        HDEL KEY age
        HGETALL KEY
        DUMP KEY
        EVAL return 0
        ACL LIST
        ACL SETUSER server +@all
        INFO
        CLIENT LIST
        CLIENT KILL TYPE normal
        MONITOR
        SHUTDOWN
        SELECT 1
        SUBSCRIBE x
        REPLICAOF NO ONE
        DBSIZE
        RANDOMKEY
    """.strip().splitlines()
]
TIMEOUT_S = 300.0
# An engine that runs for the tests alone: what earlier builds left would fill its disk.
OWN_ENGINE = "CONTAINER_ENGINE_REQUIRED" in os.environ
KEPT_CACHE = "4GB"
_SERVING = ("python", "-m", "serving_client", "health", "--target", "localhost:8001")
_FILLED = ("python", "-m", "serving.offline.keep_materialized", "--check")


def docker(*words: str, stdin: str = "") -> str:
    """Run a docker command that must succeed; return what it printed."""
    done = subprocess.run(
        ["docker", *words], input=stdin, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def remove_images(*names: str) -> None:
    """Remove the images with these names, which may have wildcards."""
    found = docker("images", "--quiet", *(f"--filter=reference={name}" for name in names)).split()
    if found:
        docker("image", "rm", "--force", *set(found))


def needs_engine() -> None:
    """Skip what needs an engine where there is none; fail where one is required."""
    try:
        if subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=60).returncode == 0:
            return
    except FileNotFoundError:
        pass
    required = os.environ.get("CONTAINER_ENGINE_REQUIRED")
    (pytest.fail if required else pytest.skip)("no container engine answers `docker info`")


@dataclass(frozen=True)
class Stack:
    """A generated repo whose containers run."""

    repo: Repo

    @classmethod
    def generate(cls, template: Path, folder: Path, slug: str) -> Stack:
        """Generate a repo of STACKS and train its model."""
        stack = cls(generate(template, folder, {"project_slug": slug} | STACKS[slug]))
        stack.command("train")
        return stack

    @property
    def slug(self) -> str:
        """The service's name."""
        return self.repo.path.name

    @property
    def project(self) -> str:
        """The name that Compose gives to the containers, networks, volumes and images of this clone."""
        (name,) = re.findall(r"^COMPOSE_PROJECT_NAME=(.*)$", self.repo.text(".env"), re.MULTILINE)
        return str(name)

    def image(self, service: str) -> str:
        """Return the name of an image that this clone builds."""
        return f"{self.project}-{service}:local"

    def compose(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a plain Compose command, as a user types it, to its end."""
        return run(["docker", "compose", *words], cwd=self.repo.path, environment=os.environ | variables)

    def agrees_with_plain_compose(self, **variables: str) -> None:
        """Assert that plain Compose sees what `make up` started, and finds nothing to change."""
        before = {service: self.containers(service) for service in ("server", "materialize", "feature-store")}
        looks = (["config", "--quiet"], ["build", "--quiet", "fetch"], ["ps"], ["logs"], ["exec", "server", "id", "-u"])
        for words in (*looks, ["up", "--detach", "--wait"]):
            done = self.compose(*words, **variables)
            assert done.returncode == 0, f"{words}: {done.stderr}"
        assert {service: self.containers(service) for service in before} == before

    def remove(self) -> None:
        """Remove containers, volumes and images."""
        self.command("down")
        assert docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}") == ""
        docker("volume", "prune", "--force", "--filter", f"label=com.docker.compose.project={self.project}")
        remove_images(f"{self.project}-*")
        if OWN_ENGINE:
            docker("builder", "prune", "--force", "--keep-storage", KEPT_CACHE)

    def command(self, *words: str, **variables: str) -> str:
        """Run a command of the repo that must succeed."""
        command = [os.environ.get("PYTHON", "python3"), "tools/tasks.py", *words]
        done = run(command, cwd=self.repo.path, environment=os.environ | variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, *words: str, **variables: str) -> str:
        """Run a command of the repo that must fail; return its message."""
        command = [os.environ.get("PYTHON", "python3"), "tools/tasks.py", *words]
        done = run(command, cwd=self.repo.path, environment=os.environ | variables)
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr

    def containers(self, service: str, *options: str) -> list[str]:
        """Return the ids of a service's running containers; with `--all`, of those in any state."""
        return docker(
            "ps", *options, "--quiet", "--filter", f"label=com.docker.compose.project={self.project}",
            "--filter", f"label=com.docker.compose.service={service}",
            # Compose labels the image as well, so that its own containers are known by their number only.
            "--filter", "label=com.docker.compose.container-number",
        ).split()  # fmt: skip

    def inside(self, container: str, *command: str) -> str:
        """Run a command in a container; return what it printed, whatever its exit code."""
        done = subprocess.run(
            ["docker", "exec", container, *command], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
        return (done.stdout + done.stderr).strip()

    def address(self, container: str) -> str:
        """Return a container's address in the callers' network."""
        networks = json.loads(docker("inspect", container))[0]["NetworkSettings"]["Networks"]
        return str(networks[f"{self.project}_clients"]["IPAddress"])

    def is_unprivileged(self, *services: str) -> None:
        """Assert that a service runs without privileges and can't write to its root file system."""
        for service in services:
            for container in self.containers(service):
                assert self.inside(container, "id", "-u") == "65532", service
                assert "Read-only file system" in self.inside(container, "touch", "/mark"), service
                status = self.inside(container, "cat", "/proc/1/status")
                assert "CapEff:\t0000000000000000" in status, service
                assert "NoNewPrivs:\t1" in status, service

    def scores_as_it_answers(self, *, flagged: bool) -> None:
        """Assert that 1,000 rows get the same bits and flags in batch as in a call."""
        program = [self.repo.python, "-c", SAME_ANSWERS.read_text(encoding="utf-8")]  # so that it imports from the repo
        self.command("versions", "fetch")
        asked = run([*program, "ask"], cwd=self.repo.path)
        assert asked.returncode == 0, asked.stderr
        # As many rows together as in the calls: libraries choose their kernels by that.
        words = ["/batch/rows.parquet", "--output", "/batch/scores.parquet", "--replace", "--rows", "50"]
        scored = self.compose("run", "--rm", "--user", str(os.getuid()), "score", *words)
        assert scored.returncode == 0, scored.stderr
        compared = run([*program, "compare"], cwd=self.repo.path)
        assert compared.returncode == 0, compared.stderr
        found = json.loads(compared.stdout)
        assert (found["rows"], found["same"], found["flagged"] > 0) == (1000, 1000, flagged)

    def may(self, user: str, key: str, *commands: list[str]) -> list[str]:
        """Return what Redis says to each command of a user: `done`, `denied`, or its error."""
        container = self.containers("server" if user == "server" else "materialize")[0]
        program = RIGHTS.read_text(encoding="utf-8")
        run_it = ["docker", "exec", "--interactive", container, "python", "-c", program, user, key, "somebody-else"]
        done = run(run_it, cwd=self.repo.path, stdin=json.dumps(commands))
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout))

    def must_not(self, user: str, key: str, *commands: list[str]) -> None:
        """Assert that Redis denies each of these commands to a user."""
        said = self.may(user, key, *commands)
        allowed = [pair for pair in zip(commands, said, strict=True) if pair[1] != "denied"]
        assert allowed == []

    def restricts_access_to_its_store(self, key: str) -> None:
        """Assert that the server may only read its own keys, `materialize` may write them, and other users nothing."""
        write, writes = ["HSET", "KEY", "age", "x"], (["SET", "KEY", "x"], ["SCAN", "0"], ["GET", "KEY"])
        assert self.may("server", key, ["HMGET", "KEY", "age"]) == ["done"]
        self.must_not("server", key, *FORBIDDEN, write, *writes, ["HMGET", "OTHER", "age"])
        # `materialize` also deletes entities.
        assert self.may("materialize", key, write, _DELETE) == ["done", "done"]
        others = [["HSET", "OTHER", "age", "x"], ["SET", "OTHER", "x"], ["DEL", "OTHER"]]
        self.must_not("materialize", key, *(words for words in FORBIDDEN if words != _DELETE), *others)
        (store,) = self.containers("feature-store")
        for words in (["PING"], ["HMGET", key, "age"], ["FLUSHALL"], ["AUTH", "guessed"]):
            said = self.inside(store, "redis-cli", *words)
            assert said.startswith(("NOAUTH", "WRONGPASS")), said

    def survives_failures_of_its_store(self, known: str) -> None:
        """Assert that no answer is wrong or lost while the store is frozen, killed, and filled again.

        One replica starts while it is unavailable.
        """
        (store,) = self.containers("feature-store")
        (server, *_) = self.containers("server")
        with self.load(known) as load:
            docker("pause", store)
            load.wait_for(300)
            docker("unpause", store)
            load.wait_for(300)
            docker("kill", store)
            docker("restart", server)
            load.wait_for(300)
            self._wait_until(server, *_SERVING)
            (materialize,) = self.containers("materialize")
            self._wait_until(materialize, *_FILLED, ends_well=False)  # the earlier result is no longer valid
            docker("start", store)  # empty: `materialize` fills it again
            self._wait_until(materialize, *_FILLED)
            load.wait_for(1000)
        print(f"answers {load.seen['answers']}, defaulted {load.seen['defaulted']}, p99 {load.seen['p99_s']} s")
        assert load.seen["failures"] == {}
        assert load.seen["wrong"] == 0
        assert load.seen["defaulted"] > 0
        with self.load(known) as after:
            after.wait_for(300)
        assert after.seen["defaulted"] == 0

    def _wait_until(self, container: str, *command: str, ends_well: bool = True) -> None:
        """Repeat a command in a container until it ends like this, however long the machine takes."""
        deadline = time.monotonic() + TIMEOUT_S
        asked = ["docker", "exec", container, *command]
        while (subprocess.run(asked, capture_output=True, check=False, timeout=60).returncode == 0) != ends_well:
            assert time.monotonic() < deadline, f"{' '.join(command)}: never ended {'well' if ends_well else 'badly'}"

    @contextmanager
    def load(
        self, known: str, *without: str, callers: int = 10, target: str = "server:8001", network: str = ""
    ) -> Iterator[Load]:
        """Call the server by name from another container while the block runs."""
        name = f"{self.project}-load-{target.partition(':')[0]}-{len(without)}"
        subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=False, timeout=TIMEOUT_S)
        docker(
            "create", "--interactive", "--init", "--name", name, "--network", network or f"{self.project}_clients",
            "--volume", f"{LOAD}:/load.py:ro", self.image("server"),
            "python", "/load.py", target, str(callers), *without,
        )  # fmt: skip
        command = ["docker", "start", "--attach", "--interactive", name]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            load = Load(process, name)
            try:
                load.begin(known)
                yield load
                load.end()
            finally:
                subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=False, timeout=TIMEOUT_S)
                load.join()


class Load:
    """A running load; after the block, its results."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self._process = process
        self._name = name
        self._errors: list[str] = []
        self._changed = threading.Condition()
        self._answered = 0
        self._follower: threading.Thread | None = None
        self.seen: dict[str, Any] = {}

    def begin(self, known: str) -> None:
        """Send the known answers, and wait for the first calls."""
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._process.stdin.write(known)
        self._process.stdin.close()
        self._follower = threading.Thread(target=self._follow, args=(self._process.stderr,), daemon=True)
        self._follower.start()
        self.wait_for(50)

    def wait_for(self, answers: int) -> None:
        """Wait until this many more calls were answered."""
        with self._changed:
            wanted = self._answered + answers
            reached = self._changed.wait_for(lambda: self._answered >= wanted, timeout=TIMEOUT_S)
        assert reached, f"no {answers} answers within {TIMEOUT_S} s: {self._errors[-5:]}"

    def end(self) -> None:
        """Stop the load and read its summary."""
        docker("stop", "--time", "30", self._name)
        assert self._process.stdout is not None
        self.seen = json.loads(self._process.stdout.read().splitlines()[-1])

    def join(self) -> None:
        """Wait for the end of the output."""
        if self._follower is not None:
            self._follower.join(TIMEOUT_S)

    def _follow(self, lines: Iterator[str]) -> None:
        for line in lines:
            with self._changed:
                if line.strip().isdecimal():
                    self._answered = int(line)
                else:
                    self._errors.append(line)
                self._changed.notify_all()


def known_answers(repo: Repo, digests: Sequence[str], *, stored: bool = True) -> str:
    """Return, as JSON, the golden rows of some versions: inputs and the answers of each version.

    Without stored features, a call brings them all.
    """
    known = {}
    for digest in digests:
        folder = repo.path / "artifacts" / digest.removeprefix("sha256=")
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
        features = manifest["features"]
        real_time = {feature["name"]: golden["inputs"][feature["name"]] for feature in features["real_time"]}
        inputs = {features["entity"]["name"]: golden["entities"], **real_time} if stored else golden["inputs"]
        known[digest] = {"inputs": inputs, "outputs": golden["outputs"]}
    return json.dumps(known)
