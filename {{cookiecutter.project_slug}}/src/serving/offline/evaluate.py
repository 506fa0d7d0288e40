"""Measure the model on logged predictions whose labels are known by now: `make evaluate`.

LABELS are CSV or Parquet files with the entity's key under its name, `time` (when the label became known) and `label`.
Each prediction gets the first label of its entity that is not older than it. A file with `request_id` in place of key
and time labels all rows of a request.

Prints a table, and writes quality.json and quality.prom, a file for node_exporter's textfile collector.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from serving.domain.artifacts import artifact_folder
from serving.domain.errors import OperatorError, quoted
from serving.domain.lineage import read_lineage
from serving.domain.settings import shared_settings
from serving.domain.tensors import Datatype
from serving.modeling import Answer, Output
from serving.offline import project, quality, user_model
from serving.offline.predictions import MODEL, REQUEST_ID, TIME, collect, log_folder
from serving.offline.quality import LABEL, Measured
from serving.offline.score import chunks, files
from serving.offline.score.layout import DIGEST, VERSION
from serving.offline.score.moments import moments_of
from serving.prediction.log_files import ENTITY, OUTPUT

_ROWS = 1 << 16
_DAY_S = 86_400.0
_HEADER = f"{'version':<10} {'output':<24} {'metric':<24} {'rows':>8} {'now':>10} {'training':>10}"
_SAME = ("model", "version", "output", "metric")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and export."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.offline.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("labels", nargs="+", metavar="LABELS", help="files, folders or patterns: 'labels/*.csv'")
    parser.add_argument("--log", type=Path, metavar="FOLDER", help="the prediction log (default: that of the setting)")
    parser.add_argument("--label", default=LABEL, metavar="COLUMN", help="the column of the labels (default: label)")
    parser.add_argument("--output", metavar="NAME", help="evaluate this output only (default: all)")
    parser.add_argument("--version", metavar="VERSION", help="evaluate this version only (default: all)")
    parser.add_argument("--within", type=float, metavar="DAYS", help="the longest wait for a label (default: any)")
    parser.add_argument("--to", type=Path, default=project.ROOT / "build" / "evaluate", metavar="FOLDER",
                        help="where to write quality.json and quality.prom (default: build/evaluate)")  # fmt: skip
    options = parser.parse_args(arguments)
    predictions = _predictions(options.log, options.version)
    labels = _labels(options.labels, options.label, options.to)
    if REQUEST_ID not in labels and ENTITY not in predictions:
        raise OperatorError("the log has no entities, as callers send no key to this model; label by request_id.")
    matched = quality.join(predictions, labels, None if options.within is None else options.within * _DAY_S)
    if matched.empty:
        raise OperatorError(
            f"none of {len(labels)} labels belongs to one of {len(predictions)} logged predictions; a label needs the "
            f"key of a logged entity, and a time after its prediction (the first is of "
            f"{_shown(predictions[TIME].min())})."
        )
    found = _measured(matched, options.output)
    print(f"{len(matched)} of {len(predictions)} logged predictions have a label")
    print(_HEADER, *map(_line, found), sep="\n")
    _export(found, matched, options.to)
    return 0


def _predictions(given: Path | None, version: str | None) -> pd.DataFrame:
    """Read what is needed of the log: keys, times and outputs.

    :raises OperatorError: there is none, or none of the version
    """
    folder = log_folder(given)
    frames = []
    for path in collect(folder):
        wanted = [
            name
            for name in pq.read_schema(path).names
            if name in (TIME, REQUEST_ID, ENTITY, MODEL, VERSION, DIGEST) or name.startswith(OUTPUT)
        ]
        frames.append(pq.read_table(path, columns=wanted).to_pandas())
    if not frames:
        raise OperatorError(f"{folder.path}: holds no prediction yet; see docs/monitoring.md.")
    predictions = pd.concat(frames, ignore_index=True)
    # To the second, as labels are.
    predictions[TIME] = predictions[TIME].astype("datetime64[s, UTC]").astype(np.int64)
    known = sorted(predictions[VERSION].unique())
    if version is not None and version not in known:
        raise OperatorError(f"--version {quoted(version)}: was not logged; the log has {', '.join(known)}.")
    return predictions if version is None else predictions[predictions[VERSION] == version]


def _labels(words: Sequence[str], label: str, target: Path) -> pd.DataFrame:
    """Read the labels.

    :raises OperatorError: a file can't be read, lacks a column, or has a time that is none
    """
    key = user_model.features().entity.name
    found = []
    for file in files.find(words, target / "quality.json"):
        schema = chunks.schema_of(file)
        columns = [REQUEST_ID, label] if REQUEST_ID in schema.names else [key, TIME, label]
        missing = [name for name in columns if name not in schema.names]
        if missing:
            raise OperatorError(
                f"{file.path}: has no column {quoted(missing[0])}; it has {', '.join(schema.names)}, and needs {key}, "
                f"{TIME} and {label}, or {REQUEST_ID} and {label}."
            )
        for chunk in chunks.read([file], [columns], _ROWS, (0, 0, 0)):
            if chunk.rejected:
                row, why = next(iter(chunk.rejected.items()))
                raise OperatorError(f"{file.path}: row {row} {why}.")
            found.append(_frame(chunk, columns, key, label))
    labels = pd.concat(found, ignore_index=True) if found else pd.DataFrame({LABEL: []})
    if labels.empty:
        raise OperatorError(f"{', '.join(words)}: holds no label.")
    if REQUEST_ID in labels and ENTITY in labels:
        raise OperatorError("some files name requests and others entities; evaluate them one after the other.")
    return labels


def _frame(chunk: chunks.Chunk, columns: Sequence[str], key: str, label: str) -> pd.DataFrame:
    frame = pd.DataFrame({LABEL: _plain(chunk.columns.column(label))})
    if REQUEST_ID in columns:
        frame[REQUEST_ID] = _texts(chunk.columns.column(REQUEST_ID))
    else:
        frame[ENTITY] = _texts(chunk.columns.column(key))
        frame[TIME], faults = moments_of(chunk.columns.column(TIME))
        if faults:
            place, why = next(iter(faults.items()))
            raise OperatorError(f"{chunk.file.path}: row {chunk.numbers[place]}, column {TIME} {why}.")
    return frame[frame[LABEL].notna()]


def _plain(column: pa.Array) -> list[object]:
    """Return labels; an empty cell is none."""
    return [cell.decode("utf-8", "backslashreplace") or None if isinstance(cell, bytes) else cell
            for cell in column.to_pylist()]  # fmt: skip


def _texts(column: pa.Array) -> list[str | None]:
    return [None if cell is None else cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else str(cell)
            for cell in column.to_pylist()]  # fmt: skip


def _measured(matched: pd.DataFrame, only: str | None) -> list[Measured]:
    logged = [name.removeprefix(OUTPUT) for name in matched.columns if name.startswith(OUTPUT)]
    if only is not None and only not in logged:
        raise OperatorError(f"--output {quoted(only)}: was not logged; the outputs are {', '.join(logged)}.")
    declared = _declared()
    names = next((output.labels for output in declared.values() if output.labels), ())
    found = []
    for (version, digest), rows in quality.versions(matched, (VERSION, DIGEST)):
        trained = read_lineage(artifact_folder(shared_settings().artifacts, digest)).metrics
        for name in logged if only is None else [only]:
            answered = rows[rows[OUTPUT + name].notna()]
            output = declared.get(name) or _by_type(name, answered[OUTPUT + name])
            if answered.empty or output is None:
                continue
            measured = quality.measure(output, answered[LABEL].tolist(), answered[OUTPUT + name].tolist(), names)
            found += [
                Measured(version, digest, name, metric, value, len(answered), trained.get(metric))
                for metric, value in measured.items()
            ]
    if not found:
        raise OperatorError("no output can be compared with the labels; name one that can with --output.")
    return found


def _declared() -> dict[str, Output]:
    """Return the outputs that model/estimator.py declares; without it, none."""
    try:
        return {output.name: output for output in user_model.outputs()}
    except OperatorError:
        return {}


def _by_type(name: str, answers: pd.Series) -> Output | None:
    """Guess what an output is that nobody declares: a float is a number, other single values are labels."""
    if answers.empty or isinstance(answers.iloc[0], np.ndarray | list):
        return None
    if pd.api.types.is_float_dtype(answers):
        return Output(name)
    return Output(name, Answer.LABEL, Datatype.TEXT)


def _line(found: Measured) -> str:
    trained = "-" if found.trained is None else f"{found.trained:.4g}"
    return (
        f"{found.version:<10} {found.output:<24} {found.metric:<24} {found.rows:>8} {found.value:>10.4g} {trained:>10}"
    )


def _export(found: Sequence[Measured], matched: pd.DataFrame, target: Path) -> None:
    """Write both files, each of which appears whole."""
    model = str(matched[MODEL].iloc[0])
    newest = int(matched[TIME].max())
    registry = CollectorRegistry()

    def gauge(name: str, text: str, labels: Sequence[str]) -> Gauge:
        return Gauge(name, text, labels, registry=registry)

    now = gauge("serving_quality", "Quality of logged predictions whose labels are known.", _SAME)
    trained = gauge("serving_quality_trained", "The same metric in training.", _SAME)
    loss = gauge("serving_quality_loss", "How much worse than in training, as a share of that.", _SAME)
    rows = gauge("serving_quality_rows", "Predictions with a label.", _SAME)
    gauge("serving_quality_newest_seconds", "Time of the newest of them, since 1970.", ["model"]).labels(model).set(
        newest
    )
    for each in found:
        labels = (model, each.version, each.output, each.metric)
        now.labels(*labels).set(each.value)
        rows.labels(*labels).set(each.rows)
        if each.trained is not None:
            trained.labels(*labels).set(each.trained)
        if each.loss is not None:
            loss.labels(*labels).set(each.loss)
    document = {"model": model, "newest": _shown(newest), "quality": [asdict(each) for each in found]}
    try:
        target.mkdir(parents=True, exist_ok=True)
        staged = target / f".quality.json.{os.getpid()}"
        staged.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        staged.replace(target / "quality.json")
        write_to_textfile(str(target / "quality.prom"), registry)
    except OSError as error:
        raise OperatorError(f"{target}: can't be written ({error.strerror}); name another folder with --to.") from None


def _shown(seconds: int) -> str:
    return str(pd.Timestamp(seconds, unit="s", tz="UTC").isoformat())


if __name__ == "__main__":
    project.run(main)
