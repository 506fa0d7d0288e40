"""Check InferenceServices against the models of KServe's Python package: `python kserve_accepts.py < manifests.json`.

Runs in an environment with KServe. Its models ignore what they don't know, so every key is looked up here.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import kserve
from kubernetes import client


def unknown(kind: str, value: Any, path: str) -> Iterator[str]:
    """Give what the model `kind` does not know in a value, or knows as something else."""
    if of := re.fullmatch(r"list\[(\w+)\]", kind):
        for number, item in enumerate(value if isinstance(value, list) else [None]):
            yield from unknown(of[1], item, f"{path}[{number}]")
        return
    model = getattr(kserve, kind, None) or getattr(client, kind.removeprefix("K8sIoApiAppsV1"), None)
    if model is None:
        builtin = {"int": int, "str": str, "bool": bool}.get(kind)
        if builtin is not None and not isinstance(value, builtin):
            yield f"{path}: {value!r} is no {kind}"
        return
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is no {kind}"
        return
    attributes = {name: attribute for attribute, name in model.attribute_map.items()}
    for key, inner in value.items():
        if key in attributes:
            yield from unknown(model.openapi_types[attributes[key]], inner, f"{path}.{key}")
        else:
            yield f"{path}.{key}: {kind} does not have it"


def main() -> int:
    """Print what KServe does not know; return 1 if there is something, or no InferenceService at all."""
    services = [item for item in json.load(sys.stdin) if item["kind"] == "InferenceService"]
    found = [line for item in services for line in unknown("V1beta1InferenceService", item, "InferenceService")]
    print(*found, sep="\n")
    return 1 if found or not services else 0


if __name__ == "__main__":
    sys.exit(main())
