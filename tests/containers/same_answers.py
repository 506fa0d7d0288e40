"""Ask a server about 1,000 rows, and compare its answers with those of batch scoring, bit by bit; runs in a repo.

`ask` writes the rows into batch/rows.parquet and what the server says into batch/answers.json; `compare` reads
batch/scores.parquet. Some entities are unknown to every store.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from serving_client import Client, Prediction, Unavailable

from serving.domain.artifacts import artifact_folder, open_artifact
from serving.domain.settings import shared_settings
from tools.predict import default_target

ROWS, CALL_ROWS, TRIES = 1000, 50, 100
UNKNOWN = "nobody"
TIMEOUT_S, PAUSE_S = 60.0, 0.2
BATCH = Path("batch")
ANSWERS = BATCH / "answers.json"


def ask() -> None:
    """Keep the rows and the server's answers."""
    settings = shared_settings()
    digest = settings.reference().digest
    artifact = open_artifact(artifact_folder(settings.artifacts, digest), digest)
    chance = np.random.default_rng(ROWS)
    rows = chance.integers(0, len(artifact.golden.entities), ROWS)
    keys = np.where(chance.random(ROWS) < 0.1, UNKNOWN, np.array(artifact.golden.entities, object)[rows])
    known: dict[str, Any] = {artifact.manifest.features.entity.name: keys}
    for name, tensor in artifact.golden_inputs().items():
        known[name] = (tensor[rows] * chance.uniform(0.9, 1.1, tensor[rows].shape)).astype(tensor.dtype)
    parts = [slice(start, start + CALL_ROWS) for start in range(0, ROWS, CALL_ROWS)]
    with Client(default_target(), model=settings.reference().model) as client:
        names = [spec.name for spec in client.metadata(timeout=TIMEOUT_S).inputs]
        sent = {name: known[name] for name in names}
        answers = [answered(client, {name: column[part] for name, column in sent.items()}) for part in parts]
    columns = {name: column.tolist() if column.dtype == object else _column(column) for name, column in sent.items()}
    pq.write_table(pa.table(columns), BATCH / "rows.parquet")
    outputs = {name: [_bits(value) for answer in answers for value in answer[name]] for name in answers[0]}
    flags = {
        "defaulted_features": [flag for answer in answers for flag in _flags(answer.defaulted)],
        "last_known_features": [flag for answer in answers for flag in _flags(answer.last_known)],
    }
    ANSWERS.write_text(json.dumps({**outputs, **flags}), encoding="utf-8")


def answered(client: Client, sent: dict[str, Any]) -> Prediction:
    """Return the answer for some rows; again, while the store is too slow for the server on a busy machine."""
    keys = [column for column in sent.values() if column.dtype == object]
    unknown = [row for row in range(CALL_ROWS) if any(column[row] == UNKNOWN for column in keys)]
    for _ in range(TRIES):
        with suppress(Unavailable):
            answer = client.predict(sent, timeout=TIMEOUT_S)
            if not answer.last_known and all(list(rows) == unknown for rows in answer.defaulted.values()):
                return answer
        time.sleep(PAUSE_S)  # the server leaves a store alone for a while that did not answer
    raise SystemExit(f"in {TRIES} tries the server never read the features of all {CALL_ROWS} rows in time")


def compare() -> None:
    """Print how many rows are the same, of how many, and how many have a flag."""
    answers, scores = json.loads(ANSWERS.read_bytes()), pq.read_table(BATCH / "scores.parquet")
    columns = {name: scores[name].combine_chunks() for name in answers}
    found = {
        name: column.to_pylist() if name.endswith("_features") else [_bits(value) for value in _rows(column)]
        for name, column in columns.items()
    }
    same = sum(all(found[name][row] == answers[name][row] for name in answers) for row in range(len(scores)))
    print(json.dumps({"rows": len(scores), "same": same, "flagged": ROWS - answers["defaulted_features"].count(None)}))


def _column(tensor: Any) -> Any:
    flat = pa.array(tensor.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, tensor[0].size) if tensor.ndim > 1 else flat


def _rows(column: Any) -> Any:
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    return column.to_numpy(zero_copy_only=False)


def _bits(value: Any) -> str:
    return str(value) if isinstance(value, str) else str(value.tobytes().hex())


def _flags(flagged: Any) -> list[str | None]:
    rows: list[list[str]] = [[] for _ in range(CALL_ROWS)]
    for name, places in flagged.items():
        for place in places:
            rows[place].append(name)
    return [";".join(names) or None for names in rows]


if __name__ == "__main__":
    {"ask": ask, "compare": compare}[sys.argv[1]]()
