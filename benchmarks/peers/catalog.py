"""The peers: every folder here with a `peer.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.peers.calls import PeerError
from benchmarks.peers.forms import Endpoint
from benchmarks.peers.models import MODELS
from benchmarks.peers.results import Server
from tools.environment import Environment
from tools.process import SetupError, quietly

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "benchmarks"


@dataclass(frozen=True)
class Ports:
    """Free ports."""

    grpc: int
    http: int
    metrics: int

    def of(self, endpoint: Endpoint) -> int:
        """Return the port of an endpoint."""
        return self.grpc if endpoint.transport == "grpc" else self.http


@dataclass(frozen=True)
class Program:
    """Hold how a server is started."""

    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)


class Contender(Protocol):
    """A server that can be measured: a peer, or a generated repo."""

    @property
    def name(self) -> str:
        """The word for `--only`."""

    @property
    def title(self) -> str:
        """The name in the table, with the version."""

    @property
    def note(self) -> str:
        """How it is configured."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The ways to call it."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models that it can serve."""

    def install(self) -> None:
        """Make its environment and its models.

        :raises PeerError: it can't be installed on this machine
        """

    def program(self, model: str, ports: Ports) -> Program:
        """Return how to serve a model."""


@dataclass(frozen=True)
class Peer:
    """A peer: `requirements/server.in` and its lock, `serve.py`, and `peer.toml`."""

    name: str
    title: str
    note: str
    endpoints: tuple[Endpoint, ...]
    models: tuple[str, ...] = tuple(MODELS)

    @property
    def lock(self) -> Path:
        """Its lock."""
        return HERE / self.name / "requirements" / "server.txt"

    @property
    def _folder(self) -> Path:
        return BUILD / self.name

    @property
    def _environment(self) -> Environment:
        return Environment(self._folder / ".venv")

    def install(self) -> None:
        """Make its environment, and fit the models there.

        :raises PeerError: it can't be installed on this machine
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            python = self._environment.ensure([self.lock])
            fit = [str(python), "-m", "benchmarks.peers.estimators", str(self._folder / "models")]
            quietly(fit, "the models can't be fitted")
        except SetupError as error:
            raise PeerError(reason(str(error))) from None

    def program(self, model: str, ports: Ports) -> Program:
        """Return how to serve a model."""
        folder = self._folder / model
        folder.mkdir(exist_ok=True)
        words = (model, str(self._folder / "models"), str(ports.grpc), str(ports.http), str(ports.metrics))
        command = (str(self._environment.python), "-m", f"benchmarks.peers.{self.name}.serve", *words)
        return Program(command, folder, {"PYTHONPATH": str(ROOT)})


def peers() -> list[Peer]:
    """Read every `peer.toml`."""
    return [_peer(path) for path in sorted(HERE.glob("*/peer.toml"))]


def _peer(path: Path) -> Peer:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    endpoints = [Endpoint(**each | {"models": tuple(each.get("models", ()))}) for each in content["endpoints"]]
    lock = path.with_name("requirements") / "server.txt"
    version = re.search(rf"^{content['package']}==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    title = f"{content['title']} {version[1]}" if version else content["title"]
    return Peer(path.parent.name, title, content["note"], tuple(endpoints))


def installed(contenders: Sequence[Contender], base: Contender) -> tuple[list[Contender], list[Server]]:
    """Install every contender; return those that are, and the others with the reason.

    :raises PeerError: the one that all are compared with can't be installed
    """
    present: list[Contender] = []
    absent = []
    for contender in contenders:
        print(f"-- {contender.title}", flush=True)
        try:
            contender.install()
            present.append(contender)
        except PeerError as fault:
            if contender is base:
                raise
            print(f"not installed: {fault}", flush=True)
            absent.append(Server(contender.title, contender.note, faults=[f"not installed: {fault}"]))
    return present, absent


def reason(output: str) -> str:
    """Return the first line of a failed command's output that names an error, else its first line."""
    lines = [re.sub(r"^\W+", "", line).strip() for line in output.splitlines()]
    found = [line.removeprefix("error:").strip() for line in lines if line.startswith("error:")]
    return next((line for line in [*found, *lines] if line), "no reason was given")


def last_words(output: str) -> str:
    """Return the last line of a server's output that names an error, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b|error:", line)]
    return [*lines, *named][-1] if lines else "it printed nothing"
