"""The pipelines: linters accept them, each job is a command of the repo, and nothing in them moves or has more rights.

tests/containers runs the jobs in order, and actionlint. They have not run on GitHub or GitLab.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from tests.support import Repo, every_pair, tool

Generated = Callable[..., Repo]

BY_COMMIT = re.compile(r"- uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


@every_pair(ci=["github"])
def test_linters_accept_the_workflows(generated: Generated, choices: dict[str, str]) -> None:
    repo = generated(**choices)
    workflows = [str(path) for path in repo.files() if path.parts[:2] == (".github", "workflows")]
    assert workflows
    tool("zizmor", "--offline", "--quiet", *workflows, cwd=repo.path)
    tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows, cwd=repo.path)
    tool("check-jsonschema", "--builtin-schema", "vendor.renovate", ".github/renovate.json", cwd=repo.path)


@every_pair(ci=["gitlab"])
def test_the_schema_accepts_gitlab_s_files(generated: Generated, choices: dict[str, str]) -> None:
    repo = generated(**choices)
    files = [".gitlab-ci.yml", *(str(path.relative_to(repo.path)) for path in repo.path.glob(".gitlab/ci/*.yml"))]
    assert len(files) > 1
    tool("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", *files, cwd=repo.path)
    tool("check-jsonschema", "--builtin-schema", "vendor.renovate", "renovate.json", cwd=repo.path)


@every_pair()
def test_every_job_is_a_command_of_the_repo(generated: Generated, choices: dict[str, str]) -> None:
    repo = generated(**choices)
    offered = set(re.findall(r'^    "([\w-]+)": Command\(', repo.text("tools/tasks.py"), re.MULTILINE))
    used = set()
    for path in pipelines(repo):
        used |= set(re.findall(r"\bmake ([\w-]+)", repo.text(str(path))))
    assert used <= offered
    if choices["ci"] == "none":
        assert used == set()
        return
    assert {"check", "test", "test-all", "build", "image-size", "push", "join"} <= used
    assert ("deploy" in used) == (choices["deployment"] != "compose")


@every_pair(ci=["github"])
def test_what_a_workflow_uses_is_pinned_and_has_no_rights_that_it_does_not_name(
    generated: Generated, choices: dict[str, str]
) -> None:
    repo = generated(**choices)
    for path in pipelines(repo):
        text = repo.text(str(path))
        uses = re.findall(r"^ *- uses: .*$", text, re.MULTILINE)
        assert [line for line in uses if not BY_COMMIT.fullmatch(line.strip())] == []
        workflow = yaml.safe_load(text)
        assert workflow["permissions"] == {}
        for job in workflow["jobs"].values():
            assert job["timeout-minutes"] <= 60
            assert job["permissions"]["contents"] == "read"


def test_production_waits_for_staging_and_for_somebody(generated: Generated) -> None:
    github = yaml.safe_load(generated(ci="github", deployment="kubernetes").text(".github/workflows/release.yml"))
    job = github["jobs"]["production"]
    assert (job["needs"], job["environment"]) == ("staging", "production")
    assert github["jobs"]["images"]["strategy"]["matrix"] == {"runner": ["ubuntu-24.04", "ubuntu-24.04-arm"]}
    assert (github["jobs"]["join"]["needs"], github["jobs"]["staging"]["needs"]) == ("images", "join")
    gitlab = yaml.safe_load(generated(ci="gitlab", deployment="kubernetes").text(".gitlab/ci/deploy.yml"))
    assert "staging" in gitlab["production"]["needs"]
    assert [rule["when"] for rule in gitlab["production"]["rules"]] == ["manual"]


def pipelines(repo: Repo) -> Iterator[Path]:
    """Return the files that a pipeline is made of."""
    for path in repo.files():
        if path.name == ".gitlab-ci.yml" or path.parts[:2] in {(".github", "workflows"), (".gitlab", "ci")}:
            yield path
