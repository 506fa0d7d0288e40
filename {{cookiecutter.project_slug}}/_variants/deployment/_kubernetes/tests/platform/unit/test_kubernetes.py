"""Manifests and deployments to a cluster; a script is the STAND-IN for kubectl."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from serving.domain.errors import OperatorError
from tools import kubernetes

APPLY = "apply --server-side"
APPLIED = ["namespace/any-staging", "service/server", "deployment.apps/server"]
PROGRAM = """\
#!{python}
import sys
words, calls = sys.argv[1:], {calls!r}
with open(calls, "a") as file:
    print(*words, file=file)
if words[: len({fails!r})] == {fails!r} != []:
    sys.exit("error: it was not to be")
elif words[0] == "apply":
    sys.stdin.read()
    print(*{applied!r}, sep="\\n")
elif words[0] == "kustomize":
    print("kind: Service")
"""

Calls = Callable[[], list[str]]
Kubectl = Callable[..., Calls]


@pytest.fixture
def kubectl(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    """Return a function that puts the stand-in on PATH; what that returns gives the calls so far."""
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def put(*, applied: Sequence[str] = APPLIED, fails: Sequence[str] = ()) -> Calls:
        calls, script = folder / "calls", folder / "kubectl"
        text = PROGRAM.format(python=sys.executable, calls=str(calls), applied=list(applied), fails=list(fails))
        script.write_text(text, encoding="utf-8")
        script.chmod(0o755)
        return lambda: [" ".join(line.split()[:2]) for line in calls.read_text(encoding="utf-8").splitlines()]

    return put


@pytest.fixture
def repo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repo with one environment, a pinned version and one image."""
    (folder / "deploy" / "overlays" / "staging").mkdir(parents=True)
    (folder / "deploy" / "slots" / "runtime").mkdir(parents=True)
    (folder / "config").mkdir()
    monkeypatch.setattr(kubernetes, "DEPLOY", folder / "deploy")
    monkeypatch.setattr(kubernetes, "BUILD", folder / "build" / "deploy")
    monkeypatch.setattr(kubernetes, "IMAGES", folder / "build" / "images.json")
    monkeypatch.setattr(kubernetes.project, "ROOT", folder)
    monkeypatch.setenv("MODEL_VERSION", f"local:any/1#sha256={'0' * 64}")
    (folder / "build").mkdir()
    images = {"server": f"registry.example.com:5000/any/server@sha256:{'1' * 64}"}
    (folder / "build" / "images.json").write_text(json.dumps(images), encoding="utf-8")
    return folder


def test_model_and_images_are_pinned_by_digest(repo: Path, kubectl: Kubectl) -> None:
    kubectl()
    assert kubernetes.render("staging") == "kind: Service\n"
    release = json.loads((repo / "build" / "deploy" / "release" / "kustomization.yaml").read_text(encoding="utf-8"))
    pinned = {"name": "server", "newName": "registry.example.com:5000/any/server", "digest": f"sha256:{'1' * 64}"}
    assert release["images"] == [pinned]
    assert release["configMapGenerator"] == [
        {"name": "model", "literals": [f"MODEL_VERSION=local:any/1#sha256={'0' * 64}"]}
    ]


def test_an_unknown_environment_is_refused_with_those_there_are(repo: Path) -> None:
    with pytest.raises(OperatorError, match="^TO=.prod. is not an environment; deploy/overlays has staging.$"):
        kubernetes.render("prod")


def test_without_pushed_images_there_is_a_way_out(repo: Path) -> None:
    (repo / "build" / "images.json").unlink()
    with pytest.raises(OperatorError, match="^build/images.json does not exist; `make build push` writes it"):
        kubernetes.render("staging")


def test_without_kubectl_there_is_a_way_out(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OperatorError, match="^kubectl is not installed; docs/deployment.md names the version.$"):
        kubernetes.render("staging")


def test_a_deployment_waits_for_what_has_pods(kubectl: Kubectl, capsys: pytest.CaptureFixture[str]) -> None:
    calls = kubectl()
    kubernetes.deploy("kind: Service")
    assert calls() == [APPLY, "rollout status"]
    assert capsys.readouterr().out.splitlines() == [
        "waiting for deployment.apps/server ...",
        "3 objects are as declared in namespace any-staging",
    ]


def test_an_inference_service_is_waited_for(kubectl: Kubectl) -> None:
    calls = kubectl(applied=["namespace/any-dev", "inferenceservice.serving.kserve.io/any"])
    kubernetes.deploy("kind: InferenceService")
    assert calls() == [APPLY, "wait --for=condition=Ready"]


def test_pods_that_do_not_turn_ready_give_way_to_those_before(kubectl: Kubectl) -> None:
    calls = kubectl(fails=["rollout", "status"])
    with pytest.raises(OperatorError) as refusal:
        kubernetes.deploy("kind: Service")
    assert str(refusal.value).splitlines()[1:] == [
        "error: it was not to be",
        "deployment.apps/server returns to the pods that ran before.",
    ]
    assert calls() == [APPLY, "rollout status", "rollout undo"]


def test_why_nothing_returns_is_said_too(kubectl: Kubectl) -> None:
    kubectl(fails=["rollout"])
    with pytest.raises(OperatorError) as refusal:
        kubernetes.deploy("kind: Service")
    assert str(refusal.value).count("error: it was not to be") == 2


def test_a_refusal_of_the_cluster_is_kept(kubectl: Kubectl) -> None:
    calls = kubectl(fails=["apply"])
    with pytest.raises(OperatorError, match="failed:\nerror: it was not to be$"):
        kubernetes.deploy("kind: Service")
    assert calls() == [APPLY]
