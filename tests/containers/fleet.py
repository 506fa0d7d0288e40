"""Pods that share this machine, each with a small part of a core, and an open-loop load on their name."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.containers.pods import Pods, registry, released
from tests.containers.stack import docker, known_answers, remove_images
from tests.support import Repo, copy_of_template, generate

SLUG = "fleet-test"
ANSWERS = {"project_slug": SLUG, "feature_store": "none", "model_registry": "local", "deployment": "kubernetes"}
SHARE = 0.15
"""Of a core, for each replica."""
LOAD = Path(__file__).with_name("curve.py")


@contextmanager
def new_fleet() -> Iterator[tuple[Repo, Fleet, str]]:
    """Generate a repo and push its images; give it, its fleet without pods, and the manifests of production."""
    with tempfile.TemporaryDirectory() as folder, registry(f"{SLUG}-registry") as address:
        repo = generate(copy_of_template(Path(folder) / "template"), Path(folder) / "out", ANSWERS)
        repo.passes("train")
        manifests = released(repo, address, "production")
        known = known_answers(repo, re.findall(r"sha256=[0-9a-f]{64}", repo.text("model.lock")), stored=False)
        pods = Pods(manifests, f"{SLUG}-pod", {"registry": repo.path / "registry"})
        with pods.running():
            yield repo, Fleet(pods, known), manifests
        remove_images(f"{SLUG}-*")


class Fleet:
    """The pods, each with its share of a core, and what is measured of them."""

    def __init__(self, pods: Pods, known: str) -> None:
        self._pods = pods
        self._known = known
        self._cpu: dict[str, tuple[float, float]] = {}
        self._going: list[threading.Thread] = []

    @property
    def size(self) -> int:
        """How many pods are ready."""
        return len(self._pods.alive)

    def resize(self, wanted: int) -> None:
        """Start or stop pods; return at once when one has to go, since that takes its time."""
        for _ in range(wanted - self.size):
            pod = self._pods.add("--publish", "127.0.0.1::8002")
            docker("update", "--cpus", str(SHARE), pod)  # the start has all of a core, as a pod on a node with room
        for _ in range(self.size - wanted):
            before = self.size
            self._going.append(threading.Thread(target=self._pods.remove))
            self._going[-1].start()
            while self.size == before:
                time.sleep(0.01)

    def measure(self) -> tuple[float, float]:
        """Return the average share of the requested CPU since the last call, and the calls that wait in each pod."""
        used, queued = [], []
        for pod in list(self._pods.alive):
            port = docker("port", pod, "8002").rpartition(":")[2]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
                text = page.read().decode()
            queued.append(float(re.findall(r"^serving_queued (\S+)$", text, re.MULTILINE)[0]))
            cpu = (self._cpu_s(pod), time.monotonic())
            before = self._cpu.get(pod)
            if before:
                used.append((cpu[0] - before[0]) / (cpu[1] - before[1]) / SHARE)
            self._cpu[pod] = cpu
        return sum(used) / max(1, len(used)), sum(queued) / len(queued)

    @contextmanager
    def load(self, rates: Sequence[tuple[float, float, float]]) -> Iterator[list[str]]:
        """Call the pods by name along a curve; the lines that it prints are in the list once the block has ended."""
        words = [word for part in rates for word in map(str, part)]
        command = [
            "docker", "run", "--rm", "--interactive", "--init", "--name", f"{SLUG}-curve", "--network",
            self._pods.network, "--volume", f"{LOAD}:/curve.py:ro", self._pods.image, "python", "/curve.py",
            f"{self._pods.service}:8001", *words,
        ]  # fmt: skip
        lines: list[str] = []
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(self._known)
            process.stdin.close()
            lines.append(process.stdout.readline())
            yield lines
            lines.extend(process.stdout)

    def _cpu_s(self, pod: str) -> float:
        """Return the CPU seconds of a pod's processes so far."""
        lines = docker("exec", pod, "sh", "-c", "cat /proc/[0-9]*/stat").splitlines()
        fields = [line.rpartition(")")[2].split() for line in lines]
        return sum(int(words[11]) + int(words[12]) for words in fields) / os.sysconf("SC_CLK_TCK")

    def join(self) -> None:
        """Wait for the pods that go."""
        for thread in self._going:
            thread.join()
