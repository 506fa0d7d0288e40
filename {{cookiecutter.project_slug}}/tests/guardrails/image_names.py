"""Names of container images: their variables resolved, and whether they can mean only one version."""

from __future__ import annotations

import re
from collections.abc import Mapping

# ${NAME}, ${NAME-default}, ${NAME:-default} and $NAME, as Dockerfile and Compose both write them. A default may hold
# further variables: the innermost is replaced first.
_VARIABLE = re.compile(r"\$\{(?P<braced>\w+)(?::?-(?P<default>[^${}]*))?\}|\$(?P<bare>\w+)")


def resolved(text: str, known: Mapping[str, str]) -> str:
    """Return the text with known values and defaults in place of variables; one that has neither stays as it is."""

    def value(match: re.Match[str]) -> str:
        name = match["braced"] or match["bare"]
        return known.get(name, match["default"] if match["default"] is not None else match[0])

    previous = ""
    while previous != text:
        previous, text = text, _VARIABLE.sub(value, text)
    return text


def unpinned(image: str) -> str:
    """Return what keeps an image's name from meaning one version only; nothing if it is pinned."""
    if "$" in image:
        return "depends on a variable that has no default"
    if image == "scratch" or "@sha256:" in image:
        return ""
    tag = image.rpartition("/")[2].partition(":")[2]
    if not tag:
        return "has no tag, which means latest"
    if "latest" in tag.split("-"):
        return "has the tag latest"
    return "" if any(character.isdigit() for character in tag) else f"has the tag {tag}, which names no version"
