"""The five mistakes in manifests of Kubernetes: what Compose must not have, a cluster must not have either.

It reads the files of deploy/ as they are, so it needs no cluster and no kubectl. The same rules hold for what Kustomize
makes of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.guardrails.compose import Entry, read_every, services
from tests.guardrails.violations import ROOT, Violation, report

POD_PATHS = {
    "Deployment": ("spec", "template", "spec"),
    "StatefulSet": ("spec", "template", "spec"),
    "DaemonSet": ("spec", "template", "spec"),
    "Job": ("spec", "template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    "Pod": ("spec",),
    "InferenceService": ("spec", "predictor"),
}
CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
OF_THE_HOST = ("hostNetwork", "hostPID", "hostIPC")
PINNED = re.compile(r"[a-z][a-z0-9-]*|.+@sha256:[0-9a-f]{64}")
GRPC_PORT, SERVER = "8001", ("server", "kserve-container")
UNITS = {"Mi": 2**20, "m": 2**20, "Gi": 2**30, "g": 2**30}

ROOT_WHY = "whoever breaks into this process has what the pod has, and the restricted profile refuses such a pod"
NAME_WHY = "callers reach pods by name; whatever hides or fixes their addresses breaks balancing or the next restart"
LOST_WHY = "calls in flight are cut off when the pod goes"


@dataclass(frozen=True)
class Pod:
    """A pod as some kind declares it; `kind` and `name` are those of that object."""

    kind: str
    name: str
    spec: Entry

    def containers(self) -> list[Entry]:
        """Return every container, those that run first included."""
        blocks = [self.spec.get(key) for key in CONTAINERS]
        return [container for block in blocks if block is not None for _, container in _items(block)]


def test_the_manifests_bring_no_mistake_back() -> None:
    found = violations(ROOT)
    assert not found, report(found)


def violations(root: Path) -> list[Violation]:
    """Return every place of deploy/ where one of the mistakes has come back."""
    documents = [entry for file in sorted(root.glob("deploy/**/*.yaml")) for entry in read_every(root, file)]
    pods = [pod for document in documents for pod in _pods(document)]
    added = [value for document in documents for value in _added_containers(document)]
    return [
        *(finding for pod in pods for finding in _pod_violations(pod)),
        *(finding for pod in pods for container in pod.containers() for finding in _container_violations(container)),
        *(finding for container in added for finding in _container_violations(container)),
        *(finding for pod in pods for finding in _drains(pod, _drain(root, documents))),
        *(finding for document in documents for finding in _service_violations(document)),
        *_denies_by_default(documents),
        *_memory_is_the_same_as_in_compose(pods, root),
        *_every_file_is_listed(root),
    ]


def _pods(document: Entry) -> Iterator[Pod]:
    kind = _text(document, "kind")
    spec = document.get(*POD_PATHS[kind]) if kind in POD_PATHS else None
    if spec is not None and spec.get("containers") is not None:
        yield Pod(kind, _text(document, "metadata", "name"), spec)


def _added_containers(document: Entry) -> Iterator[Entry]:
    """Give the containers that a JSON patch adds."""
    for _, operation in _items(document):
        value = operation.get("value")
        if value is not None and value.get("image") is not None:
            yield value


def _pod_violations(pod: Pod) -> Iterator[Violation]:
    spec = pod.spec
    uid = _text(spec, "securityContext", "runAsUser")
    if _text(spec, "securityContext", "runAsNonRoot") != "true" or not uid.isdecimal() or uid == "0":
        yield _violation(spec, f"{pod.name}: may run as root", ROOT_WHY, "set runAsNonRoot and a numeric runAsUser")
    if _text(spec, "securityContext", "seccompProfile", "type") != "RuntimeDefault":
        yield _violation(spec, f"{pod.name}: no seccomp profile", ROOT_WHY, "set seccompProfile to RuntimeDefault")
    if _text(spec, "automountServiceAccountToken") != "false":
        yield _violation(
            spec, f"{pod.name}: has a token of the cluster's API", ROOT_WHY, "automountServiceAccountToken: false"
        )
    for key in OF_THE_HOST:
        if _text(spec, key) not in ("", "false"):
            yield _violation(spec, f"{pod.name}: {key}", ROOT_WHY, "remove it: the pod has its own network and names")
    for _, volume in _items(spec.get("volumes")):
        if volume.get("hostPath") is not None:
            yield _violation(volume, f"{pod.name}: a folder of the node", ROOT_WHY, "use emptyDir or a claim")


def _container_violations(container: Entry) -> Iterator[Violation]:
    name, context = _text(container, "name"), container.get("securityContext")
    wanted = {"allowPrivilegeEscalation": "false", "readOnlyRootFilesystem": "true"}
    for key, value in wanted.items():
        if context is None or _text(context, key) != value:
            yield _violation(container, f"{name}: {key} is not {value}", ROOT_WHY, f"set {key}: {value}")
    dropped = context.get("capabilities", "drop") if context is not None else None
    if dropped is None or dropped.texts() != ["ALL"]:
        yield _violation(container, f"{name}: keeps capabilities", ROOT_WHY, "drop ALL")
    if context is not None:
        if context.get("capabilities", "add") is not None or _text(context, "privileged") not in ("", "false"):
            yield _violation(container, f"{name}: gets capabilities", ROOT_WHY, "add none")
        if _text(context, "runAsUser") == "0" or _text(context, "runAsNonRoot") == "false":
            yield _violation(container, f"{name}: may run as root", ROOT_WHY, "leave the user to the pod")
    image = _text(container, "image")
    if not PINNED.fullmatch(image):
        yield _violation(
            container,
            f"{name}: image {image} is not pinned",
            "a tag can name another image tomorrow, and nobody knows what serves",
            "write the bare name; `make manifests` puts the digest there",
        )
    if not _text(container, "resources", "limits", "memory"):
        yield _violation(
            container, f"{name}: no limit of memory", "it can take the node's", "set resources.limits.memory"
        )
    for _, variable in _items(container.get("env")):
        if re.search(r"password|token|secret|key$", _text(variable, "name"), re.IGNORECASE) and _text(
            variable, "value"
        ):
            yield _violation(variable, f"{name}: a secret in the manifest", ROOT_WHY, "mount a Secret as a file")
    for _, port in _items(container.get("ports")):
        if port.get("hostPort") is not None or port.get("hostIP") is not None:
            yield _violation(port, f"{name}: a port of the node", NAME_WHY, "use a Service")


def _drains(pod: Pod, drain: int) -> Iterator[Violation]:
    """The server has time to drain before it is killed."""
    for container in pod.containers():
        if _text(container, "name") not in SERVER:
            continue
        before = _number(_text(container, "lifecycle", "preStop", "sleep", "seconds"))
        if not before:
            yield _violation(
                container, "the server has no preStop", LOST_WHY, "sleep until no name leads here any more"
            )
        needed = before + drain + 10  # SERVING_GRACE
        if _number(_text(pod.spec, "terminationGracePeriodSeconds")) <= needed:
            yield _violation(
                pod.spec,
                f"terminationGracePeriodSeconds is not above {needed}",
                LOST_WHY,
                "preStop, drain and grace fit in",
            )
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if container.get(probe, "grpc") is None and container.get(probe, "exec") is None:
                yield _violation(container, f"the server has no {probe}", LOST_WHY, "ask grpc.health.v1")


def _drain(root: Path, documents: list[Entry]) -> int:
    """Return SERVING_DRAIN, from the file with settings or a rendered ConfigMap."""
    for file in root.glob("deploy/**/*.env"):
        for name, _, value in (line.partition("=") for line in file.read_text(encoding="utf-8").splitlines()):
            if name == "SERVING_DRAIN":
                return _number(value)
    rendered = [document.get("data", "SERVING_DRAIN") for document in documents]
    return max((_number(str(entry.value)) for entry in rendered if entry is not None), default=0)


def _service_violations(document: Entry) -> Iterator[Violation]:
    if _text(document, "kind") != "Service":
        return
    kind = _text(document, "spec", "type")
    if kind not in ("", "ClusterIP"):
        yield _violation(
            document, f"a Service of type {kind}", NAME_WHY, "leave the way in to a gateway of the cluster"
        )
    ports = [_text(port, "port") for _, port in _items(document.get("spec", "ports"))]
    if GRPC_PORT in ports and _text(document, "spec", "clusterIP") != "None":
        yield _violation(
            document,
            "a Service for gRPC that is not headless",
            "behind one virtual address all calls of a connection go to one pod",
            "set clusterIP: None, so that clients balance over the pods",
        )


def _denies_by_default(documents: list[Entry]) -> Iterator[Violation]:
    """One policy denies everything, so that each way in or out is named."""
    for document in documents:
        if _text(document, "kind") == "NetworkPolicy":
            selector, types = document.get("spec", "podSelector"), document.get("spec", "policyTypes")
            denied = types is not None and sorted(types.texts()) == ["Egress", "Ingress"]
            open_ways = (document.get("spec", "ingress"), document.get("spec", "egress"))
            if denied and selector is not None and not selector.below() and open_ways == (None, None):
                return
    yield Violation(
        "deploy/base/network.yaml",
        1,
        "no policy denies by default",
        "any pod may call any other",
        "see its first lines",
    )


def _memory_is_the_same_as_in_compose(pods: list[Pod], root: Path) -> Iterator[Violation]:
    """The server has the memory that it is tested with."""
    limits = [text for service in services(root) if service.name == "server" for text in service.all("mem_limit")]
    for pod in pods:
        for container in pod.containers():
            if _text(container, "name") not in SERVER or not limits:
                continue
            found, tested = _text(container, "resources", "limits", "memory"), str(limits[0].value)
            if _bytes(found) != _bytes(tested):
                yield _violation(
                    container,
                    f"the server has {found} of memory, in Compose {tested}",
                    "its budget of rows and calls follows from the limit",
                    "set both alike",
                )


def _every_file_is_listed(root: Path) -> Iterator[Violation]:
    """A manifest that no kustomization lists is silently not applied."""
    for folder in sorted({path.parent for path in root.glob("deploy/**/kustomization.yaml")}):
        listed = (folder / "kustomization.yaml").read_text(encoding="utf-8")
        for file in sorted(folder.glob("*.yaml")):
            if file.name != "kustomization.yaml" and not re.search(rf"[\s\[]{re.escape(file.name)}\b", listed):
                name = file.relative_to(root).as_posix()
                yield Violation(name, 1, "no kustomization lists this file", "nobody applies it", "list or remove it")


def _items(entry: Entry | None) -> list[tuple[str, Entry]]:
    if entry is None or not isinstance(entry.value, list):
        return []
    return [(str(number), item) for number, item in enumerate(entry.value)]


def _text(entry: Entry, *path: str) -> str:
    found = entry.get(*path)
    return str(found.value) if found is not None and isinstance(found.value, str) else ""


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)(\w+)", text)
    return int(match[1]) * UNITS.get(match[2], 0) if match else 0


def _violation(entry: Entry, what: str, why: str, fix: str) -> Violation:
    return Violation(entry.file, entry.line, what, why, fix)
