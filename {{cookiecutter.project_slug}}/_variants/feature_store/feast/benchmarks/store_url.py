"""The store URL for a Redis, for benchmarks."""

from __future__ import annotations

from pathlib import Path

import yaml

from serving.offline import project

_FEATURE_REPO = project.ROOT / "config" / "feature_repo"


def store_url(folder: Path, port: int) -> str:
    """Write a feature repo for the Redis at a local port to the folder; return its URL."""
    configuration = yaml.safe_load((_FEATURE_REPO / "feature_store.redis.yaml").read_text(encoding="utf-8"))
    configuration["registry"]["path"] = "registry.db"
    configuration["online_store"] |= {"connection_string": f"127.0.0.1:{port}", "username": "", "password_file": ""}
    path = folder / f"{port}.yaml"
    path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    definitions = (_FEATURE_REPO / "definitions.py").read_text(encoding="utf-8")
    (folder / "definitions.py").write_text(definitions, encoding="utf-8")
    return f"feast:{path}"
