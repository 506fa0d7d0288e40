"""Batch scoring from files to a file, in this process, with a small model."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from serving.domain.errors import OperatorError
from serving.modeling import History
from serving.offline import user_model
from tests.platform.support.artifacts import rich
from tests.platform.support.fakes import FakeStore
from tests.platform.support.scoring import KEYS, VALUES, Job, lay_out, numbers, write


def test_keys_read_the_newest_values_of_the_store_and_defaults_are_flagged(job: Job) -> None:
    write(job.folder / "in.parquet", {"value": VALUES, "key": KEYS, "unused": [1, 2, 3]})
    summary = job.run("in.parquet")
    digest = job.folder.joinpath("model.lock").read_text().strip().partition("#")[2]
    assert job.table() == {
        "key": KEYS,
        "total": [11.0, 22.0, 130.0],
        "model_version": ["1"] * 3,
        "artifact_digest": [digest] * 3,
        "defaulted_features": [None, None, "base"],
        "last_known_features": [None] * 3,
    }
    assert (summary.counts.rows, summary.counts.rejected, dict(summary.counts.defaulted)) == (3, 0, {"base": 1})
    assert job.left() == {"out.parquet"}


def test_static_features_in_the_input_are_used_instead_of_the_store(job: Job, store: FakeStore) -> None:
    write(job.folder / "in.csv", {"key": KEYS, "value": VALUES, "base": [5.0, 6.0, 7.0]})
    job.run("in.csv")
    assert job.table()["total"] == [15.0, 26.0, 37.0]
    assert store.reads == 0


def test_with_a_date_each_row_gets_what_was_known_then(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    past = History(("a", "a"), np.array(["2020-01-01", "2021-01-01"], "M8[s]"), {"base": np.float32([1, 2])})
    monkeypatch.setattr(user_model, "history", lambda: past)
    dates = ["2019-12-31", "2020-06-01", "2021-01-01"]
    write(job.folder / "in.csv", {"key": ["a"] * 3, "value": VALUES, "seen": dates})
    summary = job.run("in.csv", date="seen")
    table = job.table()
    assert table["total"] == [110.0, 21.0, 32.0]
    assert table["defaulted_features"] == ["base", None, None]
    assert [str(day) for day in table["seen"]] == dates
    assert dict(summary.counts.stale) == {}


@pytest.mark.parametrize("output", ["out.csv", "out.parquet"])
def test_rows_without_a_key_are_named_by_file_and_number(given: Job, output: str) -> None:
    (given.folder / "more").mkdir()
    write(given.folder / "more" / "b.csv", numbers(2))
    write(given.folder / "more" / "a.csv", numbers(1))
    write(given.folder / "more" / "_hidden.csv", {"no": [1]})
    given.run("more", "in.par*", output=output)
    table = given.table(output)
    assert table["file"] == ["more/a.csv", "more/b.csv", "more/b.csv", *["in.parquet"] * 100]
    assert table["row"] == [1, 1, 2, *range(1, 101)]
    assert table["total"][:3] == [0.5, 0.5, 1.5]


def test_any_columns_can_be_copied_as_keys(given: Job) -> None:
    write(given.folder / "keyed.parquet", {**numbers(2), "row": pa.array([7, 8], pa.int16()), "file": ["x", None]})
    for output in ("out.parquet", "out.csv"):
        given.run("keyed.parquet", keys=("file", "row"), output=output)
        table = given.table(output)
        assert ([cell or None for cell in table["file"]], table["row"]) == (["x", None], [7, 8])


def test_arrays_are_lists_in_parquet_and_columns_in_csv(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = lay_out(folder, rich(()), monkeypatch)
    matrix = [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]
    write(folder / "in.parquet", {"matrix": matrix, "words": [["left", "right"]]})
    write(folder / "in.csv", {f"matrix_{i}": [i + 1.0] for i in range(6)} | {"words_0": ["left"], "words_1": ["right"]})
    for source, other in (("in.parquet", "in.csv"), ("in.csv", "in.parquet")):
        made.run(source)
        made.run(other, output="out.csv")
        assert made.table()["matrix_out"] == matrix
        assert made.table()["words_out"] == [[b"left", b"right"]]
        assert [made.table("out.csv")[f"matrix_out_{i}"] for i in range(6)] == [[i + 1] for i in range(6)]
        for name in ("out.parquet", "out.csv"):
            (folder / name).unlink()


def test_an_unknown_entity_is_refused_alone_if_the_settings_say_so(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_UNKNOWN_ENTITY", "refuse")
    write(
        job.folder / "in.parquet", {"key": ["a", "nobody", "b", "b", "nobody"], "value": [1.0, 2.0, np.inf, 4.0, 5.0]}
    )
    summary = job.run("in.parquet")
    assert job.table()["total"] == [2.0, 6.0]
    nobody = "input 'key': the feature store has no base for 'nobody' (1 in all); correct the key or materialize its"
    found = [(row, column, reason.partition(" features")[0]) for row, column, reason in job.refused()]
    assert found[0] == (2, "key", nobody)
    assert [(row, column) for row, column, _ in found] == [(2, "key"), (3, "value"), (5, "key")]
    assert summary.counts.rejected == 3


def test_a_file_without_rows_gives_an_output_without_rows(given: Job) -> None:
    (given.folder / "empty.csv").write_text("base,value\n", encoding="utf-8")
    assert given.run("empty.csv").counts.rows == 0
    assert given.table()["total"] == []


def test_more_refused_rows_than_allowed_end_the_run_and_are_named(given: Job) -> None:
    write(given.folder / "bad.parquet", {"base": [1.0, np.nan] * 50, "value": [1.0] * 100})
    with pytest.raises(OperatorError, match=r"rows are refused so far, more than --max-rejected 9; out.*names them"):
        given.run("bad.parquet", max_rejected=9, rows=10)
    assert given.left() == {"out.parquet.rejected.csv", "out.parquet.work"}
    assert len(given.refused()) == 10
    assert given.run("bad.parquet", max_rejected=50, rows=10).counts.rejected == 50
    assert given.left() == {"out.parquet.rejected.csv", "out.parquet"}
    given.run("bad.parquet", rows=10, output="at-once.parquet")
    assert (given.folder / "out.parquet").read_bytes() == (given.folder / "at-once.parquet").read_bytes()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("watched", [True, False])
def test_progress_is_shown_only_where_somebody_watches(
    given: Job, watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = Terminal() if watched else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    given.run("in.parquet")
    assert ("100/100" in stderr.getvalue()) is watched
