"""Pods of a rendered manifest, as containers: the life that a kubelet gives them, by the manifest's times.

A STAND-IN for a cluster: init containers, environment, users, memory, probes, preStop, signal and grace are those of
the manifest. Names come from a Docker network, whose DNS lists a container until it is gone; a cluster's forgets a pod
as soon as it has to go.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.containers.stack import docker, remove_images
from tests.support import Repo, run

REGISTRY = "docker-registry-2.8:local"
_DOCKERFILE = """\
FROM debian:trixie-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends docker-registry
RUN printf '{version: 0.1, storage: {filesystem: {rootdirectory: /images}}, http: {addr: ":5000"}}' > /open.yml
CMD ["docker-registry", "serve", "/open.yml"]
"""
_PROBES = {"grpc": ["python", "-m", "serving_client", "health", "--timeout", "3", "--target"]}

_ANSWERED = r'^grpc_server_handled_total{grpc_code="OK",grpc_method="ModelInfer"} (\S+)'
_METRICS = "import urllib.request as u; print(u.urlopen('http://localhost:8002/metrics', timeout=5).read().decode())"


@contextmanager
def registry(name: str) -> Iterator[str]:
    """Run Debian's registry for images; give its address on this machine. Images of it go with it."""
    build = ["docker", "build", "--quiet", "--tag", REGISTRY, "-"]
    subprocess.run(build, input=_DOCKERFILE, text=True, check=True, timeout=600, capture_output=True)
    docker("run", "--detach", "--name", name, "--publish", "127.0.0.1::5000", REGISTRY)
    try:
        port = docker("port", name, "5000").strip().rpartition(":")[2]
        try:
            yield f"localhost:{port}"
        finally:
            remove_images(f"localhost:{port}/*/*")
    finally:
        docker("rm", "--force", "--volumes", name)


class Pods:
    """The pods of a Deployment or InferenceService, on their own network where the Service's name leads to them."""

    def __init__(self, manifests: str, name: str, claims: Mapping[str, Path]) -> None:
        objects = list(yaml.safe_load_all(manifests))
        self._maps = {item["metadata"]["name"]: item["data"] for item in objects if item["kind"] == "ConfigMap"}
        predictors = [item for item in objects if item["kind"] == "InferenceService"]
        if predictors:
            (predictor,) = predictors
            self._spec: dict[str, Any] = predictor["spec"]["predictor"]
            self.service = f"{predictor['metadata']['name']}-predictor"  # KServe makes it
        else:
            (deployment,) = [item for item in objects if _is(item, "Deployment", "server")]
            (service,) = [item for item in objects if _is(item, "Service", "server")]
            self._spec = deployment["spec"]["template"]["spec"]
            self.service = service["metadata"]["name"]
        self.image = str(self._spec["containers"][0]["image"])
        self._claims = claims
        self._name = name
        self._number = 0
        self.network = f"{name}-pods"
        self.alive: list[str] = []

    @contextmanager
    def running(self) -> Iterator[Pods]:
        """Make the network; remove everything at the end."""
        docker("network", "create", self.network)
        try:
            yield self
        finally:
            for kind, remove in ((["ps", "--all"], ["rm", "--force"]), (["volume", "ls"], ["volume", "rm"])):
                if mine := docker(*kind, "--quiet", "--filter", f"name=^{self._name}-").split():
                    docker(*remove, *mine)
            docker("network", "rm", self.network)

    def add(self, *more: str) -> str:
        """Start a pod, and wait until its readiness probe succeeds; `more` are options of Docker. Return its name."""
        self._number += 1
        pod, spec = f"{self._name}-{self._number}", self._spec
        for init in spec.get("initContainers", []):
            docker("run", "--rm", *self._options(pod, init), init["image"], *init["command"])
        (server,) = spec["containers"]
        # The claims are for the init containers; nobody but callers of its network reaches the pod.
        options = ["--network", self.network, "--network-alias", self.service, *more]
        docker("run", "--detach", "--name", pod, *options, *self._options(pod, server), server["image"])
        ready = [*_PROBES["grpc"], f"localhost:{server['readinessProbe']['grpc']['port']}"]
        deadline = time.monotonic() + 120
        while subprocess.run(["docker", "exec", pod, *ready], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, docker("logs", pod)
        self.alive.append(pod)
        return pod

    def remove(self) -> int:
        """End the oldest pod as a kubelet does: preStop, SIGTERM, grace; return its exit code."""
        pod = self.alive.pop(0)
        (server,) = self._spec["containers"]
        before = server["lifecycle"]["preStop"]["sleep"]["seconds"]
        time.sleep(before)  # the manifest's own time
        docker("stop", "--time", str(self._spec["terminationGracePeriodSeconds"] - before), pod)
        return int(docker("inspect", "--format", "{{.State.ExitCode}}", pod))

    def answered(self) -> list[float]:
        """Return the calls that each pod has answered, all read at about the same moment."""

        def of(pod: str) -> float:
            page = docker("exec", pod, "python", "-c", _METRICS)
            return float(re.findall(_ANSWERED, page, re.MULTILINE)[0])

        with ThreadPoolExecutor(len(self.alive)) as threads:
            return list(threads.map(of, self.alive))

    def _options(self, pod: str, container: Mapping[str, Any]) -> list[str]:
        """Return how Docker runs a container of the pod."""
        security = self._spec["securityContext"]  # and a cluster does not know the image's health check
        words = ["--user", f"{security['runAsUser']}:{security['runAsGroup']}", "--init", "--no-healthcheck"]
        if container["securityContext"]["readOnlyRootFilesystem"]:
            words.append("--read-only")
        words += [
            word for name in container["securityContext"]["capabilities"]["drop"] for word in ("--cap-drop", name)
        ]
        words += [
            "--security-opt",
            "no-new-privileges",
            "--memory",
            _memory(container["resources"]["limits"]["memory"]),
        ]
        known = {source["configMapRef"]["name"] for source in container.get("envFrom", [])}
        variables = {name: value for source in known for name, value in self._maps[source].items()}
        variables |= {variable["name"]: variable["value"] for variable in container.get("env", [])}
        words += [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
        volumes = {volume["name"]: volume for volume in self._spec["volumes"]}
        for mount in container.get("volumeMounts", []):
            words += self._mount(pod, volumes[mount["name"]], mount)
        return words

    def _mount(self, pod: str, volume: Mapping[str, Any], mount: Mapping[str, Any]) -> list[str]:
        access = ":ro" if mount.get("readOnly") else ""
        if "persistentVolumeClaim" in volume:
            return [
                "--volume",
                f"{self._claims[volume['persistentVolumeClaim']['claimName']]}:{mount['mountPath']}{access}",
            ]
        if "secret" in volume:
            assert volume["secret"]["optional"]
            return []
        if volume["emptyDir"].get("medium") == "Memory":
            return ["--tmpfs", mount["mountPath"]]
        return ["--volume", f"{pod}-{volume['name']}:{mount['mountPath']}{access}"]


def released(repo: Repo, address: str, environment: str) -> str:
    """Build and push the images of a trained repo; return the manifests of an environment, and fetch the model."""
    for words in (["build"], ["push"], ["manifests"]):
        variables = [f"IMAGE_PREFIX={address}/team", "IMAGE_TAG=any", f"TO={environment}"]
        done = run(["env", *variables, sys.executable, "tools/tasks.py", *words], cwd=repo.path)
        assert done.returncode == 0, done.stdout + done.stderr
    fetch = run([repo.python, "-m", "serving.offline.model_version", "fetch"], cwd=repo.path)
    assert fetch.returncode == 0, fetch.stderr
    return done.stdout


def pushed(folder: Path) -> dict[str, str]:
    """Return the images that `make push` has written down."""
    images: dict[str, str] = json.loads((folder / "build" / "images.json").read_text(encoding="utf-8"))
    return images


def _is(item: Mapping[str, Any], kind: str, name: str) -> bool:
    return bool(item["kind"] == kind and item["metadata"]["name"] == name)


def _memory(text: str) -> str:
    return text.replace("Mi", "m").replace("Gi", "g")
