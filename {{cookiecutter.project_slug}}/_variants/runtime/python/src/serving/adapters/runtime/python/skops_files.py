"""scikit-learn's estimators, in files of skops: no code in them, and no type that nobody has reviewed."""

from __future__ import annotations

import io
import itertools
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from serving.adapters.runtime.python.packed import archive
from serving.adapters.runtime.python.settings import CONFIG, Opening, RuntimeSettings
from serving.domain.errors import ArtifactError, OperatorError

_SCHEMA = "schema.json"
_FILE = re.compile(r"(\d+)(\.\w+)")


def save(estimator: Any, settings: RuntimeSettings) -> bytes:
    """Return an estimator as skops writes it, with numbers in place of memory addresses.

    :raises OperatorError: it holds a type that is not trusted
    """
    import skops.io

    content = bytes(skops.io.dumps(estimator))
    if untrusted := _untrusted(content, settings):
        raise OperatorError(
            f"model/estimator.py: the model holds {untrusted}, which skops does not trust; read what it does when it "
            f"is built, then add it to `trusted` in {CONFIG}."
        )
    return canonical(content)


def load(content: bytes, opening: Opening) -> Any:
    """Build an estimator from a file of skops.

    :raises ArtifactError: it holds a type that is not trusted
    """
    import skops.io

    if untrusted := _untrusted(content, opening.settings):
        raise ArtifactError(f"the model holds {untrusted}, which `trusted` in {CONFIG} does not name.")
    return skops.io.loads(content, trusted=list(opening.settings.trusted))


def _untrusted(content: bytes, settings: RuntimeSettings) -> str:
    """Return the first types of a file that neither skops nor the settings trust."""
    import skops.io

    return ", ".join(sorted(set(skops.io.get_untrusted_types(data=content)) - set(settings.trusted))[:3])


def canonical(content: bytes) -> bytes:
    """Return a file of skops in which objects are numbered in their order, so that equal models are equal files."""
    with zipfile.ZipFile(io.BytesIO(content)) as saved:
        files = {name: saved.read(name) for name in saved.namelist()}
    schema = json.loads(files.pop(_SCHEMA))
    numbers: dict[int, int] = {}
    counted = itertools.count(1)
    for node in _nodes(schema):
        if "__id__" in node:
            # Plain values are shared or not as the interpreter likes: each gets a number of its own.
            known = None if node.get("is_json") else numbers.get(node["__id__"])
            number = known or next(counted)
            numbers[node["__id__"]] = number
            node["__id__"] = number
        for key, value in node.items():
            if isinstance(value, str) and value in files and (match := _FILE.fullmatch(value)):
                node[key] = f"{numbers.setdefault(int(match[1]), next(counted))}{match[2]}"
    renamed = {
        f"{numbers[int(match[1])]}{match[2]}" if (match := _FILE.fullmatch(name)) else name: data
        for name, data in files.items()
    }
    return archive({**dict(sorted(renamed.items())), _SCHEMA: json.dumps(schema, sort_keys=True).encode()})


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in list(value.values()):
            yield from _nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _nodes(inner)
