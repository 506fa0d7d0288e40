"""Read an export of `neptune-exporter export-models`, in the environment of `requirements/import.txt`.

    python read_export.py FOLDER

Prints JSON: for each version that this repo's Neptune adapter stored, its digest and where its files are.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

_DIGEST = "serving/digest"
_COLUMNS = ["project_id", "run_id", "attribute_path", "string_value", "file_value"]


def main(folder: str) -> None:
    """Print the versions in a folder of Parquet files; each row is one field of one version."""
    parquet = import_module("pyarrow.parquet")
    versions: dict[tuple[str, str], dict[str, Any]] = {}
    for file in sorted(Path(folder).rglob("*.parquet")):
        for row in parquet.read_table(str(file), columns=_COLUMNS).to_pylist():
            version = versions.setdefault((row["project_id"], row["run_id"]), {"files": {}})
            if row["attribute_path"] == _DIGEST:
                version["digest"] = row["string_value"]
            elif row["attribute_path"].startswith("artifact/") and row["file_value"]:
                version["files"][row["attribute_path"]] = row["file_value"]["path"]
    listed = [
        {"project": project, "id": name, **version}
        for (project, name), version in versions.items()
        if "digest" in version
    ]
    json.dump(listed, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
