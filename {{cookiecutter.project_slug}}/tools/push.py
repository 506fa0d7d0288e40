"""Push the images to a registry, and write down the digests: `make build push`.

IMAGE_PREFIX names registry and folder. The tag is the commit, or IMAGE_TAG. Images that others built, such as Redis,
are pushed too: the cluster then pulls from one place, and nothing changes under a tag. build/images.json has the
result.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping

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


def main() -> int:
    """Push every image that a cluster runs; return the exit code."""
    prefix, tag = _given()
    service = project.service()["name"]
    pushed = {name: _push(local, f"{prefix}/{service}-{name}:{tag}") for name, local in _images().items()}
    IMAGES.parent.mkdir(exist_ok=True)
    IMAGES.write_text(json.dumps(pushed, indent=2) + "\n", encoding="utf-8")
    for image in pushed.values():
        print(f"pushed {image}")
    print(f"wrote {IMAGES.relative_to(project.ROOT)}")
    return 0


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


def _images() -> Mapping[str, str]:
    """Return the images of this machine by their names in a cluster: own ones by stage, others by service."""
    command = ["docker", "compose", "config", "--format", "json"]
    environment = {"MODEL_VERSION": "none", **os.environ}
    services = json.loads(engine.run(command, environment, _LOOK_TIMEOUT_S))["services"]
    own = {service["build"]["target"]: service["image"] for service in services.values() if _is_own(service)}
    others = {name: service["image"] for name, service in services.items() if "build" not in service}
    return {name: image for name, image in sorted({**own, **others}.items()) if name not in _STAYS_HERE}


def _is_own(service: Mapping[str, object]) -> bool:
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


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(main)
