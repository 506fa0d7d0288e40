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
elif words[:1] == ["version"]:
    print("arm64")
elif words[:3] == ["buildx", "imagetools", "create"]:
    with open("joined", "a") as file:
        print(*words[4:], file=file)
elif words[:3] == ["buildx", "imagetools", "inspect"]:
    print(json.dumps({"digest": "sha256:" + "3" * 64}))
elif words[:2] == ["image", "inspect"]:
    print("registry.example.com/elsewhere@sha256:" + "2" * 64)
    print(words[-1].rpartition(":")[0] + "@sha256:" + "1" * 64)
"""
FOR_ANOTHER = PROGRAM.replace('"redis:8.10.2-trixie"', '"redis:8.10.2-trixie", "platform": "linux/amd64"')
KNOWS_NO_DIGEST = PROGRAM.replace('words[-1].rpartition(":")[0]', '"other"')


@pytest.fixture
def repo(folder: Path, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repo whose images are built from a commit."""
    docker(PROGRAM)
    (folder / "config").mkdir()
    service = '[service]\nname = "any"\ndescription = ""\norganization = ""\n'
    (folder / "config" / "service.toml").write_text(service, encoding="utf-8")
    monkeypatch.setattr(push.project, "ROOT", folder)
    monkeypatch.setattr(push, "IMAGES", folder / "build" / "images.json")
    monkeypatch.setattr(push, "commit", lambda root: COMMIT)
    monkeypatch.setenv("IMAGE_PREFIX", "registry.example.com:5000/team")
    monkeypatch.delenv("IMAGE_TAG", raising=False)
    return folder


def written(repo: Path, name: str) -> dict[str, str]:
    images: dict[str, str] = json.loads((repo / "build" / name).read_text(encoding="utf-8"))
    return images


def test_every_image_of_a_cluster_is_pushed_and_known_by_its_digest(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push.main([]) == 0
    images = {
        name: f"registry.example.com:5000/team/any-{name}@sha256:{'1' * 64}"
        for name in ("feature-store", "fetch", "server")
    }
    assert written(repo, "images.json") == written(repo, f"images/{COMMIT[:12]}/arm64.json") == images
    assert capsys.readouterr().out.splitlines()[-1] == "wrote build/images.json"


@pytest.mark.parametrize("prefix", ["", "Registry.example.com/x", "https://registry.example.com", "a b"])
def test_a_prefix_that_is_none_is_refused(repo: Path, monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setenv("IMAGE_PREFIX", prefix)
    with pytest.raises(OperatorError, match="^IMAGE_PREFIX=.* is not a registry with a folder; set it in .env"):
        push.main([])


@pytest.mark.parametrize("found", [f"{COMMIT}-dirty", "none"])
def test_work_that_is_not_committed_is_not_pushed(repo: Path, monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    monkeypatch.setattr(push, "commit", lambda root: found)
    with pytest.raises(OperatorError, match="^IMAGE_TAG=.* is not a tag; commit your work, or set IMAGE_TAG"):
        push.main([])
    assert not (repo / "build").exists()


def test_an_image_without_a_digest_is_not_written_down(repo: Path, docker: Docker) -> None:
    docker(KNOWS_NO_DIGEST)
    with pytest.raises(OperatorError, match="was pushed, but the engine knows no digest of it"):
        push.main([])
    assert not (repo / "build").exists()


def test_what_each_architecture_has_pushed_gets_one_digest(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    push.main([])
    other = {name: image.replace("1" * 64, "4" * 64) for name, image in written(repo, "images.json").items()}
    (repo / "build" / "images" / COMMIT[:12] / "amd64.json").write_text(json.dumps(other), encoding="utf-8")
    earlier = repo / "build" / "images" / "earlier"
    earlier.mkdir()
    (earlier / "amd64.json").write_text("{}", encoding="utf-8")
    push.main(["join"])
    name = "registry.example.com:5000/team/any-server"
    assert written(repo, "images.json")["server"] == f"{name}@sha256:{'3' * 64}"
    joined = (repo / "joined").read_text(encoding="utf-8").splitlines()
    assert joined[-1].split() == [f"{name}:{COMMIT[:12]}", *(f"{name}@sha256:{digit * 64}" for digit in "41")]
    assert capsys.readouterr().out.splitlines()[-1] == "joined amd64, arm64; wrote build/images.json"


def test_nothing_is_joined_where_nothing_was_pushed(repo: Path) -> None:
    with pytest.raises(OperatorError, match="^build/images/0123456789ab has nothing to join; `make push` writes"):
        push.main(["join"])


def test_images_of_two_builds_are_not_joined(repo: Path) -> None:
    push.main([])
    (repo / "build" / "images" / COMMIT[:12] / "amd64.json").write_text('{"server": "x"}', encoding="utf-8")
    with pytest.raises(OperatorError, match="^the files of build/images/0123456789ab name different images; build"):
        push.main(["join"])


def test_an_architecture_that_an_image_does_not_have_is_left_out(
    repo: Path, docker: Docker, capsys: pytest.CaptureFixture[str]
) -> None:
    docker(FOR_ANOTHER)
    assert push.main([]) == 0
    assert capsys.readouterr().out == "nothing is pushed for linux/arm64: there is no such image of feature-store\n"
    assert not (repo / "build").exists()
