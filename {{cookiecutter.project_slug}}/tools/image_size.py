"""Compare the size of the server's image with its budget: `make image-size`, after `make build`.

What counts is what it adds to its base image, which other images of a node share. The budget is the sum of the files
in config/size, one for each part of the service that needs room.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from serving.domain.errors import OperatorError
from serving.offline import project
from tools import engine
from tools.compose_setup import settings

SIZES = project.ROOT / "config" / "size"

_BASE = "org.opencontainers.image.base.name"
_MB = 1e6
_LOOK_TIMEOUT_S = 30.0
_PULL_TIMEOUT_S = 600.0


def main() -> int:
    """Print the size and the budget; return the exit code."""
    image = f"{engine.project_name()}-{engine.SERVER}:{settings(project.ROOT).get('IMAGE_TAG') or 'local'}"
    base = _base(image)
    added = (_size(image) - _size_of_base(base)) / _MB
    files = sorted(SIZES.glob("*.toml"))
    budget = sum(_server_mb(file) for file in files)
    if added > budget:
        raise OperatorError(
            f"the server's image adds {added:,.0f} MB to {base}, {added - budget:,.0f} MB above its budget of "
            f"{budget:,} MB; remove what it does not need, or raise the number in {_names(files)}."
        )
    print(f"the server's image adds {added:,.0f} MB to {base}; its budget is {budget:,} MB")
    return 0


def _server_mb(file: Path) -> int:
    try:
        size = tomllib.loads(file.read_text(encoding="utf-8"))["server_mb"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise OperatorError(f"{_names([file])} needs one line `server_mb = <number>` ({error}).") from None
    if type(size) is not int or size < 1:
        raise OperatorError(f"{_names([file])}: server_mb = {size!r} is not a number of MB above 0.")
    return size


def _base(image: str) -> str:
    try:
        return _look(image, f'{{{{index .Config.Labels "{_BASE}"}}}}')
    except OperatorError:
        raise OperatorError(f"there is no image {image} on this machine; `make build` builds it.") from None


def _size_of_base(base: str) -> int:
    """Return the size of the base image, which a builder need not have left on this machine."""
    try:
        return _size(base)
    except OperatorError:
        engine.run(["docker", "pull", "--quiet", base], None, _PULL_TIMEOUT_S)
        return _size(base)


def _size(image: str) -> int:
    return int(_look(image, "{{.Size}}"))


def _look(image: str, form: str) -> str:
    return engine.run(["docker", "image", "inspect", "--format", form, image], None, _LOOK_TIMEOUT_S).strip()


def _names(files: list[Path]) -> str:
    return ", ".join(str(file.relative_to(project.ROOT)) for file in files)


if __name__ == "__main__":
    os.chdir(project.ROOT)
    project.run(main)
