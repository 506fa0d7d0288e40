"""Commands on the prediction log: Parquet, deletion, and quality when labels are known."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.domain.artifacts import artifact_folder
from serving.domain.deadline import Deadline
from serving.domain.errors import OperatorError
from serving.domain.features import Entity, FeatureSet
from serving.domain.lineage import Lineage, write_lineage
from serving.domain.references import Reference
from serving.domain.tensors import ROWS, Datatype, Tensor, TensorSpec
from serving.modeling import Answer, Output
from serving.offline import evaluate, predictions, quality, user_model
from serving.online.prediction_log import PredictionLog
from serving.online.telemetry import Metrics
from serving.prediction import pipeline
from serving.prediction.log_files import OPEN, PARQUET, SEGMENT, LogFolder, LoggedCalls, LoggedModel, encode

DAY_S, HOUR_S = 86_400, 3600
BEGAN = 1_790_000_000
"""Seconds since 1970: when the first prediction was made."""

DIGESTS = {"1": f"sha256={'1' * 64}", "2": f"sha256={'2' * 64}"}


def text(values: Sequence[str]) -> Tensor:
    return np.array([value.encode() for value in values], object)


def block(
    keys: Sequence[str] | None,
    answers: Mapping[str, Tensor],
    *,
    version: str = "1",
    hours: Sequence[float] | None = None,
    ids: Sequence[str] | None = None,
) -> bytes:
    """Return rows of a log, one an hour, whose input is the answer."""
    count = len(next(iter(answers.values())))
    times = np.array([BEGAN + HOUR_S * hour for hour in hours or range(count)]) * 1_000_000
    specs = tuple(
        TensorSpec(name, Datatype.TEXT if answer.dtype == object else Datatype.FP32, (ROWS, *answer.shape[1:]))
        for name, answer in answers.items()
    )
    model = LoggedModel(Reference("local", "m", version, DIGESTS[version]), (TensorSpec("x", Datatype.FP32),), specs)
    calls = LoggedCalls(
        times.astype(np.int64),
        text(ids or [""] * count),
        None if keys is None else text(keys),
        {"x": np.arange(count, dtype=np.float32)},
        answers,
        {"x": [0]},
        {},
    )
    return encode(model, calls)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogFolder:
    """Return an empty prediction log that the settings name, and work beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVING_PREDICTION_LOG", "log")
    monkeypatch.setattr(user_model, "features", lambda: FeatureSet(Entity("person"), (), ()))
    monkeypatch.setattr(user_model, "outputs", lambda: (Output("y"),))
    (tmp_path / "log").mkdir()
    return LogFolder(Path("log"), 64 << 20, 36_500)


def segment(log: LogFolder, *blocks: bytes, kind: str = SEGMENT) -> Path:
    path = log.new().with_suffix(kind)
    path.write_bytes(b"".join(blocks))
    return path


def numbers(*values: float) -> dict[str, Tensor]:
    return {"y": np.array(values, np.float32)}


def rows(log: LogFolder) -> list[dict[str, Any]]:
    return [row for path in log.files(PARQUET) for row in pq.read_table(path).to_pylist()]


def test_a_segment_becomes_a_parquet_file_with_named_columns(log: LogFolder) -> None:
    segment(log, block(["ann", "bo"], numbers(1, 2), ids=["r1", ""]), block(["eve"], numbers(3)))
    assert predictions.main([]) == 0
    assert log.files(SEGMENT) == []
    assert [row["entity"] for row in rows(log)] == ["ann", "bo", "eve"]
    assert {name: value for name, value in rows(log)[0].items() if name != "time"} == {
        "request_id": "r1",
        "model": "m",
        "model_version": "1",
        "artifact_digest": DIGESTS["1"],
        "entity": "ann",
        "input.x": 0.0,
        "output.y": 1.0,
        "defaulted_features": "x",
        "last_known_features": None,
    }
    assert rows(log)[0]["time"].timestamp() == BEGAN
    assert rows(log)[1]["request_id"] is None


def test_what_a_killed_server_left_is_taken_over_and_what_was_cut_off_is_said(
    log: LogFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    left = segment(log, block(["ann"], numbers(1)), block(["bo"], numbers(2))[:-1], kind=OPEN)
    os.utime(left, (BEGAN, BEGAN))
    killed_while_empty = segment(log, kind=OPEN)
    os.utime(killed_while_empty, (BEGAN, BEGAN))
    (log.path / "20260101T000000Z-1.writing").write_bytes(b"half of a file")  # of a command that was killed
    assert predictions.main([]) == 0
    assert "were cut off" in capsys.readouterr().out
    assert [row["entity"] for row in rows(log)] == ["ann"]
    assert {path.suffix for path in log.path.iterdir() if not path.name.startswith(".")} == {PARQUET}


async def test_a_running_server_hands_over_all_that_it_answered(log: LogFolder) -> None:
    model = LoggedModel(Reference("local", "m", "1", DIGESTS["1"]), (), (TensorSpec("y", Datatype.FP32),))

    async def run(inputs: Any, rows: int, deadline: Deadline) -> pipeline.Answer:
        return pipeline.Answer({"y": np.ones(rows, np.float32)})

    metrics = Metrics.create()
    running = PredictionLog(log, model, metrics, entity="person", share=1.0, queue_bytes=1 << 20, wake=0.01)
    try:
        answer = running.around(run)
        for _ in range(3):
            await answer({"person": text(["ann"])}, 1, Deadline(60.0))
        await answer({"person": text(["bo"])}, 1, Deadline(60.0))
        assert predictions.delete(log, ["ann", "nobody"]) == 3
        assert [row["entity"] for row in rows(log)] == ["bo"]
        await answer({"person": text(["ann"])}, 1, Deadline(60.0))
    finally:
        running.close()
    predictions.collect(log)
    assert {row["entity"] for row in rows(log)} == {"bo", "ann"}  # answered after the deletion


def test_a_deleted_entity_is_gone_from_every_file(log: LogFolder, capsys: pytest.CaptureFixture[str]) -> None:
    segment(log, block(["ann", "bo"], numbers(1, 2)))
    predictions.collect(log)
    segment(log, block(["ann"], numbers(1)))
    segment(log, block(["eve", "ann"], numbers(1, 2)), block(["ann"], numbers(4)))
    segment(log, block(None, numbers(5)))
    assert predictions.main(["--delete", "ann"]) == 0
    assert capsys.readouterr().out == "deleted 4 rows from log\n"
    assert {row.get("entity") for row in rows(log)} == {"bo", "eve", None}
    assert not any(b"ann" in path.read_bytes() for path in log.path.iterdir())


def test_a_deletion_that_fails_says_so_and_loses_nothing(log: LogFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    segment(log, block(["ann", "bo"], numbers(1, 2)))
    predictions.collect(log)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as changed:
        changed.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(OperatorError, match="log: can't be changed .*No space left on device"):
            predictions.delete(log, ["ann"])
    assert [row["entity"] for row in rows(log)] == ["ann", "bo"]


def test_one_command_at_a_time_changes_the_files(log: LogFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "_PATIENCE_S", 0.0)
    with closing(sqlite3.connect(log.path / ".lock", isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OperatorError, match="whether another command works on it"):
            predictions.collect(log)


def test_a_server_that_goes_on_writing_is_named(log: LogFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "_PATIENCE_S", 0.0)
    alive = segment(log, kind=OPEN)
    with pytest.raises(OperatorError, match=f"{alive.name}: a server still writes it"):
        predictions.collect(log)


def labels(name: str, columns: Mapping[str, Sequence[Any]]) -> str:
    frame = pd.DataFrame(dict(columns))
    if name.endswith(".csv"):
        frame.to_csv(name, index=False)
    else:
        frame.to_parquet(name)
    return name


def later(*hours: float) -> list[str]:
    return [pd.Timestamp(BEGAN + HOUR_S * hour, unit="s", tz="UTC").isoformat() for hour in hours]


def measured(folder: Path = Path("build")) -> dict[tuple[str, str], float]:
    found = json.loads((folder / "quality.json").read_text(encoding="utf-8"))["quality"]
    return {(each["version"], each["metric"]): each["value"] for each in found}


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_each_prediction_gets_the_first_label_of_its_entity_that_comes_after_it(log: LogFolder, name: str) -> None:
    # Predictions of ann in the hours 0, 1 and 3, of bo in the hour 2.
    segment(log, block(["ann", "ann", "bo", "ann"], numbers(10, 20, 30, 40)))
    people, times = ["ann", "ann", "bo", "eve"], later(2.5, 3.5, 1, 9)
    words = [labels(name, {"person": people, "time": times, "label": [11.0, 44.0, 0.0, 0.0]}), "--to", "build"]
    assert evaluate.main(words) == 0
    assert measured()["1", "mean_absolute_error"] == pytest.approx((1 + 9 + 4) / 3)
    assert measured()["1", "mean_error"] == pytest.approx((-1 + 9 - 4) / 3)
    assert evaluate.main([*words, "--within", str(1 / 24)]) == 0
    assert measured()["1", "mean_absolute_error"] == 4


def test_versions_are_measured_apart_and_beside_their_training(
    log: LogFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = artifact_folder(Path("artifacts"), DIGESTS["2"])
    folder.mkdir(parents=True)
    write_lineage(folder, Lineage(metrics={"mean_absolute_error": 2.0, "r2": 0.9}))
    segment(log, block(["a", "b", "c"], numbers(1, 2, 3)))
    segment(log, block(["a", "b", "c"], numbers(4, 5, 6), version="2"))
    known = labels("l.csv", {"person": ["a", "b", "c"], "time": later(9, 9, 9), "label": [1, 2, 3]})
    assert evaluate.main([known, "--to", "build"]) == 0
    assert measured()["1", "mean_absolute_error"] == 0
    assert measured()["2", "mean_absolute_error"] == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "6 of 6 logged predictions have a label"
    assert "2          y                        mean_absolute_error             3          3          2" in lines
    page = text_string_to_metric_families(Path("build/quality.prom").read_text(encoding="utf-8"))
    samples = {
        (sample.name, sample.labels.get("version"), sample.labels.get("metric")): sample.value
        for family in page
        for sample in family.samples
    }
    assert samples["serving_quality", "2", "mean_absolute_error"] == 3
    assert samples["serving_quality_trained", "2", "mean_absolute_error"] == 2
    assert samples["serving_quality_loss", "2", "mean_absolute_error"] == 0.5
    assert samples["serving_quality_rows", "2", "mean_absolute_error"] == 3
    assert ("serving_quality_trained", "1", "mean_absolute_error") not in samples
    assert evaluate.main([known, "--to", "build", "--version", "2"]) == 0
    assert {version for version, _ in measured()} == {"2"}


def test_labels_may_name_requests_where_there_are_no_entities(log: LogFolder) -> None:
    segment(log, block(None, numbers(1, 2, 3), ids=["a", "b", "b"]))
    assert evaluate.main([labels("l.csv", {"request_id": ["b"], "label": [4]}), "--to", "build"]) == 0
    assert measured()["1", "mean_absolute_error"] == 1.5


@pytest.mark.parametrize(
    ("output", "answers", "known", "expected"),
    [
        (
            Output("y", Answer.LABEL, Datatype.TEXT),
            text(["no", "yes", "yes"]),
            ["no", "no", "yes"],
            {"accuracy": 2 / 3},
        ),
        (Output("y", Answer.LABEL, Datatype.INT64), np.array([1, 0, 1]), [1.0, 0.0, 0.0], {"accuracy": 2 / 3}),
        (
            Output("y", Answer.PROBABILITIES, of="yes"),
            np.array([0.1, 0.9, 0.6]),
            ["no", "yes", "no"],
            {"roc_auc": 1.0, "brier": (0.01 + 0.01 + 0.36) / 3},
        ),
        (
            Output("y", Answer.PROBABILITIES, shape=(2,)),
            np.array([[0.5, 0.5], [0.25, 0.75], [0.75, 0.25]]),
            ["no", "yes", "no"],
            {"accuracy": 1.0, "log_loss": -np.log(0.5 * 0.75 * 0.75) / 3},
        ),
        (
            Output("y", Answer.PROBABILITIES, shape=(3,)),
            np.array([[0.2, 0.2, 0.6], [0.8, 0.1, 0.1]]),
            [2, 1],
            {"accuracy": 0.5},
        ),
    ],
)
def test_each_kind_of_output_has_its_metrics(
    output: Output, answers: Tensor, known: list[Any], expected: dict[str, float]
) -> None:
    found = quality.measure(output, known, answers.tolist(), ())
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_more_classes_than_an_output_has_are_refused() -> None:
    output = Output("y", Answer.PROBABILITIES, shape=(2,))
    with pytest.raises(OperatorError, match="output y has 2 classes; write the number of the class"):
        quality.measure(output, ["a", "b", "c"], [[0.5, 0.5]] * 3, ())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.csv"], "there is no such file"),
        (["wrong.csv"], "wrong.csv: has no column 'label'; it has person, time, and needs person, time and label, or "),
        (["date.csv"], "date.csv: row 1, column time 'soon' is no date; write YYYY-MM-DD, or ISO 8601"),
        (["text.csv"], "label 'high' is no number, and output y is one"),
        (["early.csv"], r"none of 1 labels belongs to one of 1 logged predictions; .* \(the first is of 2026-09-"),
        (["good.csv", "--version", "9"], "--version '9': was not logged; the log has 1."),
        (["good.csv", "--output", "z"], "--output 'z': was not logged; the outputs are y."),
        (["good.csv", "--log", "nowhere"], "nowhere: is no folder"),
    ],
)
def test_what_can_not_be_evaluated_is_one_sentence(log: LogFolder, words: list[str], said: str) -> None:
    segment(log, block(["ann"], numbers(1)))
    good = {"person": ["ann"], "time": later(9), "label": [1]}
    labels("good.csv", good)
    labels("wrong.csv", {"person": ["ann"], "time": later(9)})
    labels("date.csv", good | {"time": ["soon"]})
    labels("text.csv", good | {"label": ["high"]})
    labels("early.csv", good | {"time": later(-9)})
    with pytest.raises(OperatorError, match=said):
        evaluate.main([*words, "--to", "build"])
    assert not Path("build").exists()


def test_without_a_log_there_is_one_sentence(log: LogFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OperatorError, match="log: holds no prediction yet"):
        evaluate.main(["labels.csv"])
    monkeypatch.delenv("SERVING_PREDICTION_LOG")
    with pytest.raises(OperatorError, match="there is no prediction log: set SERVING_PREDICTION_LOG"):
        evaluate.main(["labels.csv"])
    assert predictions.forget(["ann"]) == ""
