"""Push the images to a registry, and write down the digests: `make build push`, and `make join` after several.

IMAGE_PREFIX names registry and folder. The tag is the commit, or IMAGE_TAG, and the architecture of this machine.
Images that others built, such as Redis, are pushed too: the cluster then pulls from one place, and nothing changes
under a tag. build/images.json has the result. Machines of several architectures push for one of them each; `join`
makes one digest of their images, so that each node pulls its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.domain.errors import OperatorError, quoted
from serving.offline import project
from serving.offline.git_info import commit
from tools import engine
from tools.compose_setup import settings

IMAGES = project.ROOT / "build" / "images.json"

_PREFIX = re.compile(r"[a-z0-9][a-z0-9.-]*(:\d+)?(/[a-z0-9][a-z0-9._-]*)*")
_WHOLE, _COMMIT_DIGITS = re.compile(r"[0-9a-f]{40}"), 12
_TAG = re.compile(r"[\w][\w.-]{0,127}")
_STAYS_HERE = ("gateway", "mlflow")
"""Services of this machine only: a cluster has its own."""

_LOOK_TIMEOUT_S = 30.0
_PUSH_TIMEOUT_S = 900.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Push what a cluster runs, or join what was pushed; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.push", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("push", "join"), default="push")
    command = parser.parse_args(arguments).command
    prefix, tag = _given()
    (push if command == "push" else join)(f"{prefix}/{project.service()['name']}", tag)
    return 0


def push(prefix: str, tag: str) -> None:
    """Push every image for the architecture of this machine."""
    architecture = engine.architecture()
    services = _services()
    elsewhere = sorted(name for name, service in services.items() if _is_for_another(service, architecture))
    if elsewhere:
        print(f"nothing is pushed for linux/{architecture}: there is no such image of {', '.join(elsewhere)}")
        return
    remote = f"{prefix}-{{}}:{tag}-{architecture}"
    pushed = {name: _push(local, remote.format(name)) for name, local in _images(services).items()}
    _write(_pushed(tag) / f"{architecture}.json", pushed)
    for image in pushed.values():
        print(f"pushed {image}")
    _write(IMAGES, pushed)
    print(f"wrote {IMAGES.relative_to(project.ROOT)}")


def join(prefix: str, tag: str) -> None:
    """Join the images that were pushed with a tag: one digest each, for all architectures.

    :raises OperatorError: nothing was pushed with this tag, or not the same images for each architecture
    """
    files = sorted(_pushed(tag).glob("*.json"))
    folder = _pushed(tag).relative_to(project.ROOT)
    if not files:
        raise OperatorError(f"{folder} has nothing to join; `make push` writes one file there for each architecture.")
    pushed = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    if any(images.keys() != pushed[0].keys() for images in pushed):
        raise OperatorError(f"the files of {folder} name different images; build and push them from one commit.")
    joined = {name: _join(f"{prefix}-{name}:{tag}", [images[name] for images in pushed]) for name in pushed[0]}
    _write(IMAGES, joined)
    print(f"joined {', '.join(file.stem for file in files)}; wrote {IMAGES.relative_to(project.ROOT)}")


def _given() -> tuple[str, str]:
    known = settings(project.ROOT)
    prefix, tag = known.get("IMAGE_PREFIX", ""), known.get("IMAGE_TAG") or _commit()
    if not _PREFIX.fullmatch(prefix):
        raise OperatorError(
            f"IMAGE_PREFIX={quoted(prefix)} is not a registry with a folder; set it in .env or the environment, for "
            "example IMAGE_PREFIX=registry.example.com/team."
        )
    if not _TAG.fullmatch(tag):
        raise OperatorError(f"IMAGE_TAG={quoted(tag)} is not a tag; commit your work, or set IMAGE_TAG to a release.")
    return prefix, tag


def _commit() -> str:
    """Return the short commit; empty if files differ from it, since then nobody could build the image again."""
    found = commit(project.ROOT)
    return found[:_COMMIT_DIGITS] if _WHOLE.fullmatch(found) else ""


def _pushed(tag: str) -> Path:
    """Return the folder with a file for each architecture."""
    return IMAGES.with_suffix("") / tag


def _write(file: Path, images: Mapping[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(images, indent=2) + "\n", encoding="utf-8")


def _services() -> Mapping[str, Mapping[str, Any]]:
    command = ["docker", "compose", "config", "--format", "json"]
    environment = {"MODEL_VERSION": "none", **os.environ}
    services: Mapping[str, Mapping[str, Any]] = json.loads(engine.run(command, environment, _LOOK_TIMEOUT_S))[
        "services"
    ]
    return services


def _is_for_another(service: Mapping[str, Any], architecture: str) -> bool:
    return bool(service.get("platform", f"linux/{architecture}") != f"linux/{architecture}")


def _images(services: Mapping[str, Mapping[str, Any]]) -> Mapping[str, str]:
    """Return the images of this machine by their names in a cluster: own ones by stage, others by service."""
    own = {service["build"]["target"]: service["image"] for service in services.values() if _is_own(service)}
    others = {name: service["image"] for name, service in services.items() if "build" not in service}
    return {name: image for name, image in sorted({**own, **others}.items()) if name not in _STAYS_HERE}


def _is_own(service: Mapping[str, Any]) -> bool:
    build = service.get("build")
    return isinstance(build, dict) and "target" in build


def _push(local: str, remote: str) -> str:
    """Push an image, and return it with its digest."""
    engine.run(["docker", "tag", local, remote], None, _LOOK_TIMEOUT_S)
    engine.run(["docker", "push", "--quiet", remote], None, _PUSH_TIMEOUT_S)
    form = "{{range .RepoDigests}}{{println .}}{{end}}"
    digests = engine.run(["docker", "image", "inspect", "--format", form, remote], None, _LOOK_TIMEOUT_S).split()
    repository = remote.rpartition(":")[0]
    for digest in digests:
        if digest.startswith(f"{repository}@sha256:"):
            return digest
    raise OperatorError(f"{remote} was pushed, but the engine knows no digest of it: {digests}.")


def _join(remote: str, images: Sequence[str]) -> str:
    """Make one image of those of several architectures, and return it with its digest."""
    engine.run(["docker", "buildx", "imagetools", "create", "--tag", remote, *images], None, _PUSH_TIMEOUT_S)
    look = ["docker", "buildx", "imagetools", "inspect", remote, "--format", "{{json .Manifest}}"]
    digest = json.loads(engine.run(look, None, _LOOK_TIMEOUT_S))["digest"]
    return f"{remote.rpartition(':')[0]}@{digest}"


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(main)
