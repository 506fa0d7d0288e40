"""Print or apply the manifests of one environment: `make manifests TO=staging`, `make deploy TO=staging`.

The manifests are those of deploy/, with the images of build/images.json and the version of model.lock, each by its
digest. `deploy` applies them with kubectl, in its present context, and waits until the new pods are ready; if they
don't turn ready, the pods before them come back.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from serving.domain.errors import OperatorError, quoted
from serving.domain.settings import shared_settings
from serving.offline import project
from tools.push import IMAGES

DEPLOY = project.ROOT / "deploy"
BUILD = project.ROOT / "build" / "deploy"

_RENDER_TIMEOUT_S = 60.0
_APPLY_TIMEOUT_S = 120.0
_READY_TIMEOUT_S = 600.0
_SPARE_S = 30.0
_TAIL_LINES = 8
_ROLLOUT = ("rollout", "status")
_READY = {"deployment.apps": _ROLLOUT, "inferenceservice.serving.kserve.io": ("wait", "--for=condition=Ready")}
"""How to wait for what has pods, by its kind."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.kubernetes", description=__doc__)
    parser.add_argument("command", choices=("manifests", "deploy"))
    command = parser.parse_args(arguments).command
    overlay = render(os.environ.get("TO", ""))
    if command == "manifests":
        print(overlay, end="")
    else:
        deploy(overlay)
    return 0


def render(environment: str) -> str:
    """Return the manifests of an environment.

    :raises OperatorError: there is no such environment, no image, no version, or no kubectl
    """
    known = sorted(path.name for path in (DEPLOY / "overlays").iterdir())
    if environment not in known:
        raise OperatorError(f"TO={quoted(environment)} is not an environment; deploy/overlays has {', '.join(known)}.")
    model, images = str(shared_settings().reference()), _images()
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(DEPLOY, BUILD)
    for slot in (BUILD / "slots").iterdir():  # Kustomize reads no file outside of the folder that names it
        shutil.copytree(project.ROOT / "config", slot / "config")
    _write_release(BUILD / "release", model=model, images=images)
    return _kubectl("kustomize", str(BUILD / "overlays" / environment), timeout=_RENDER_TIMEOUT_S)


def deploy(manifests: str) -> None:
    """Apply manifests and wait for what they start; a Deployment that fails returns to the pods that ran before.

    :raises OperatorError: the cluster refuses them, or the new pods don't become ready
    """
    apply = ("apply", "--server-side", "--filename", "-", "--output", "name")
    applied = _kubectl(*apply, timeout=_APPLY_TIMEOUT_S, stdin=manifests).split()
    (namespace,) = [name.partition("/")[2] for name in applied if name.startswith("namespace/")]
    for name in applied:
        if wait := _READY.get(name.partition("/")[0]):
            print(f"waiting for {name} ...", flush=True)
            _await(name, wait, namespace)
    print(f"{len(applied)} objects are as declared in namespace {namespace}")


def _await(name: str, wait: Sequence[str], namespace: str) -> None:
    words = [*wait, name, "--namespace", namespace, f"--timeout={_READY_TIMEOUT_S:.0f}s"]
    try:
        _kubectl(*words, timeout=_READY_TIMEOUT_S + _SPARE_S)
    except OperatorError as error:
        if wait is not _ROLLOUT:
            raise
        raise OperatorError(f"{error}\n{_undo(name, namespace)}") from None


def _undo(name: str, namespace: str) -> str:
    """Return to the pods that ran before; say whether that was possible."""
    try:
        _kubectl("rollout", "undo", name, "--namespace", namespace, timeout=_APPLY_TIMEOUT_S)
    except OperatorError as error:
        return f"{name} can't return to the pods that ran before: {error}"
    return f"{name} returns to the pods that ran before."


def _images() -> Mapping[str, str]:
    if not IMAGES.exists():
        raise OperatorError(
            f"{IMAGES.relative_to(project.ROOT)} does not exist; `make build push` writes it, with the images' digests."
        )
    images: Mapping[str, str] = json.loads(IMAGES.read_text(encoding="utf-8"))
    return images


def _write_release(folder: Path, *, model: str, images: Mapping[str, str]) -> None:
    """Write the Kustomize component that pins model and images; JSON is YAML too."""
    folder.mkdir()
    component = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "configMapGenerator": [{"name": "model", "literals": [f"MODEL_VERSION={model}"]}],
        "images": [
            {"name": name, "newName": image.partition("@")[0], "digest": image.partition("@")[2]}
            for name, image in images.items()
        ],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(component, indent=2), encoding="utf-8")


def _kubectl(*arguments: str, timeout: float, stdin: str = "") -> str:
    if shutil.which("kubectl") is None:
        raise OperatorError("kubectl is not installed; docs/deployment.md names the version.")
    command = ["kubectl", *arguments]
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, encoding="utf-8", check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise OperatorError(f"`{' '.join(command)}` did not finish within {timeout:.0f} s.") from None
    if done.returncode:
        last = "\n".join(done.stderr.splitlines()[-_TAIL_LINES:])
        raise OperatorError(f"`{' '.join(command)}` failed:\n{last}")
    return done.stdout


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(main)
