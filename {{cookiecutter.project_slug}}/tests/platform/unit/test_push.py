"""Pushing images; a script is the STAND-IN for Docker. The template's tests/containers push to a real registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.domain.errors import OperatorError
from tests.platform.support.docker_program import Docker
from tools import push

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROGRAM = """\
import json, sys
words = sys.argv[1:]
if words[:2] == ["compose", "config"]:
    built = {name: {"image": f"tiny-{name}:local", "build": {"target": name}} for name in ("server", "fetch")}
    others = {"feature-store": {"image": "redis:8.10.2-trixie"}, "gateway": {"image": "gateway", "build": {}}}
    print(json.dumps({"services": {**built, **others}}))
elif words[:2] == ["image", "inspect"]:
    print("registry.example.com/elsewhere@sha256:" + "2" * 64)
    print(words[-1].rpartition(":")[0] + "@sha256:" + "1" * 64)
"""
KNOWS_NO_DIGEST = PROGRAM.replace('words[-1].rpartition(":")[0]', '"other"')


@pytest.fixture
def repo(folder: Path, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repo whose images are built from a commit."""
    docker(PROGRAM)
    (folder / "config").mkdir()
    service = '[service]\nname = "any"\ndescription = ""\norganization = ""\n'
    (folder / "config" / "service.toml").write_text(service, encoding="utf-8")
    monkeypatch.setattr(push, "IMAGES", folder / "build" / "images.json")
    monkeypatch.setattr(push, "commit", lambda root: COMMIT)
    monkeypatch.setenv("IMAGE_PREFIX", "registry.example.com:5000/team")
    monkeypatch.delenv("IMAGE_TAG", raising=False)
    return folder


def test_every_image_of_a_cluster_is_pushed_and_known_by_its_digest(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push.main() == 0
    images = {
        name: f"registry.example.com:5000/team/any-{name}@sha256:{'1' * 64}"
        for name in ("feature-store", "fetch", "server")
    }
    assert json.loads((repo / "build" / "images.json").read_text(encoding="utf-8")) == images
    assert capsys.readouterr().out.splitlines()[-1] == "wrote build/images.json"


@pytest.mark.parametrize("prefix", ["", "Registry.example.com/x", "https://registry.example.com", "a b"])
def test_a_prefix_that_is_none_is_refused(repo: Path, monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setenv("IMAGE_PREFIX", prefix)
    with pytest.raises(OperatorError, match="^IMAGE_PREFIX=.* is not a registry with a folder; set it in .env"):
        push.main()


@pytest.mark.parametrize("found", [f"{COMMIT}-dirty", "none"])
def test_work_that_is_not_committed_is_not_pushed(repo: Path, monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    monkeypatch.setattr(push, "commit", lambda root: found)
    with pytest.raises(OperatorError, match="^IMAGE_TAG=.* is not a tag; commit your work, or set IMAGE_TAG"):
        push.main()
    assert not (repo / "build").exists()


def test_an_image_without_a_digest_is_not_written_down(repo: Path, docker: Docker) -> None:
    docker(KNOWS_NO_DIGEST)
    with pytest.raises(OperatorError, match="was pushed, but the engine knows no digest of it"):
        push.main()
    assert not (repo / "build").exists()
