"""The containers of the server: a list is the STAND-IN for Docker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serving.domain.errors import OperatorError
from tools.replicas import Replica
from tools.rollout import DEPLOYMENT


class Containers:
    """The containers of the server; `fails` is what a new one does instead of turning healthy."""

    def __init__(self) -> None:
        self.there: list[Replica] = []
        self.fails: BaseException | None = None
        self.version = "one"
        self.kept_by_fetch = ""
        self.config, self.image = "config-1", "image-1"
        self.commands: list[str] = []
        self.others: list[str] = []

    def add(self, count: int, version: str, deployment: str, *, health: str = "healthy") -> None:
        """Start replicas."""
        for _ in range(count):
            name = f"{version}-{deployment}-{len(self.there)}"
            made = Replica(name, version, deployment, "running", health, 0, self.config, self.image, "server:local")
            self.there.append(made)

    def start(self, _keep: str, _option: str, scaled: str, **variables: str) -> None:
        """Stand in for `docker compose up --no-recreate --scale server=N`."""
        self.add(int(scaled.partition("=")[2]) - len(self.there), self.version, variables[DEPLOYMENT])

    def fetch(self, running: str) -> None:
        """Stand in for the job that fetches a version."""
        self.kept_by_fetch = running

    def remove(self, names: Sequence[str]) -> None:
        """Stop and remove replicas."""
        self.there = [replica for replica in self.there if replica.container not in names]

    def await_health(self, _names: Sequence[str], _timeout: float) -> None:
        """Fail as a new replica would."""
        if self.fails:
            raise self.fails

    def run(self, command: Sequence[str], environment: Mapping[str, str], _timeout: float) -> str:
        """Stand in for the docker commands of a stack, and note those of Compose."""
        program, *words = command[1:]
        if program == "image":
            return f"{self.image}\n"
        if program == "images":
            return ""
        assert program == "compose"
        self.commands.append(words[0])
        if words[0] == "config":
            return "gateway\nserver\n" if "--services" in words else f"server {self.config}\n"
        if "--no-deps" in words and words[0] == "up":
            self.others = list(words[3:])
            return ""
        if words[0] == "up":
            self.version = environment["MODEL_VERSION"]
            self._up(int(words[-1].partition("=")[2]), environment[DEPLOYMENT], keep="--no-recreate" in words)
        return ""

    def _up(self, count: int, deployment: str, *, keep: bool) -> None:
        """Scale; unless they are kept, recreate the replicas that differ, all at once."""
        now = (self.version, deployment, self.config, self.image)
        if not keep:
            same = [it for it in self.there if (it.version, it.deployment, it.config, it.image) == now]
            if len(same) < len(self.there):
                self.commands.append("recreate")
            self.there = same[:count]
        self.add(count - len(self.there), self.version, deployment)
        if self.fails and not keep:
            raise OperatorError("not healthy")
