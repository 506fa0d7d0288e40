"""What batch scoring refuses: rows one by one, files and commands at once."""

from __future__ import annotations

import csv
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from serving.domain.errors import NotReady, OperatorError
from serving.domain.features import FeatureSet
from serving.domain.tensors import Datatype
from serving.offline.score import model
from serving.offline.score.__main__ import main
from tests.platform.support.artifacts import rich, tiny
from tests.platform.support.scoring import Job, lay_out, numbers, write


@pytest.fixture
def given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Return a job for the model whose features are all given, and its input of 100 rows."""
    made = lay_out(folder, tiny(), monkeypatch)
    write(folder / "in.parquet", numbers(100))
    return made


LONG = "x" * 257
FAULTS = [
    *(("bool", cell, f"{cell!r} is no BOOL") for cell in ("maybe", "2")),
    *(("uint8", cell, f"{cell!r} is no UINT8") for cell in ("256", "-1", "1.5", "x", "1_0", "0x10")),
    *((name, "", "holds no value") for name in ("bool", "uint8", "int64", "uint64")),
    ("uint16", "65536", "'65536' is no UINT16"),
    ("uint32", "4294967296", "'4294967296' is no UINT32"),
    *(("uint64", cell, f"{cell!r} is no UINT64") for cell in ("-1", "18446744073709551616")),
    ("int8", "-129", "'-129' is no INT8"),
    ("int16", "32768", "'32768' is no INT16"),
    ("int32", "2147483648", "'2147483648' is no INT32"),
    *(("int64", cell, f"{cell!r} is no INT64") for cell in ("9223372036854775808", "nan", "inf", "1e400")),
    *((name, "nan", "NAN") for name in ("fp16", "fp32", "fp64")),
    *((name, "", "NAN") for name in ("fp16", "fp32", "fp64")),
    *(("fp32", cell, "NAN") for cell in ("inf", "-inf", "1e39")),
    ("fp16", "70000", "NAN"),
    ("fp64", "1e999", "NAN"),
    *(("fp32", cell, f"{cell!r} is no FP32") for cell in ("one", "1,5", "1 2", "--1", "0x1p3")),
    ("bytes", LONG, "an element has 257 bytes, at most 256 are allowed"),
    ("text", LONG, "an element has 257 bytes, at most 256 are allowed"),
    ("text", b"\xff", "an element is not UTF-8, and this model takes text"),
    ("matrix_3", "x", "'x' is no FP32"),
    ("matrix_5", "", "NAN"),
    ("words_1", LONG, "an element has 257 bytes, at most 256 are allowed"),
]  # fmt: skip
"""Column, cell and reason."""


def test_each_kind_of_fault_is_named_with_row_column_and_reason(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(FAULTS) > 40
    made = lay_out(folder, rich(), monkeypatch)
    names = [datatype.value.lower() for datatype in Datatype]
    good = dict.fromkeys([*names, *(f"matrix_{i}" for i in range(6)), "words_0", "words_1"], "1")
    with (folder / "in.csv").open("w", encoding="utf-8", errors="surrogateescape", newline="") as lines:
        writer = csv.DictWriter(lines, list(good))
        writer.writeheader()
        for column, cell, _ in FAULTS:
            bad = cell.decode("utf-8", "surrogateescape") if isinstance(cell, bytes) else cell
            writer.writerows([good, {**good, column: bad}])
        lines.write("1,2\n")
    summary = made.run("in.csv")
    words = "holds NaN or an infinity, which this model does not accept"
    expected = []
    for place, (column, _, reason) in enumerate(FAULTS):
        name = column.partition("_")[0]
        expected.append((2 * place + 2, name, f"input '{name}': {words if reason == 'NAN' else reason}."))
    last = (2 * len(FAULTS) + 1, "", f"has 2 columns, the header has {len(good)}")
    assert made.refused() == [*expected, last]
    assert made.table()["row"] == [2 * place + 1 for place in range(len(FAULTS))]
    assert (summary.counts.rows, summary.counts.rejected) == (len(FAULTS), len(FAULTS) + 1)


def prepare(folder: Path) -> None:
    """Write files with something wrong."""
    write(folder / "missing.csv", {"base": [1.0]})
    write(folder / "cased.csv", {"base": [1.0], "Value": [1.0]})
    write(folder / "typed.parquet", {"base": [1.0], "value": pa.array([0], pa.timestamp("ms"))})
    write(folder / "total.csv", {**numbers(1), "total": [1]})
    write(folder / "number.parquet", {**numbers(1), "id": [1]})
    write(folder / "text.parquet", {**numbers(1), "id": ["x"]})
    (folder / "twice.csv").write_text("base,value,value\n1,2,3\n", encoding="utf-8")
    (folder / "empty.csv").write_text("", encoding="utf-8")
    (folder / "notes.txt").write_text("base,value\n", encoding="utf-8")
    (folder / "torn.parquet").write_bytes((folder / "in.parquet").read_bytes()[:-20])
    (folder / "nothing").mkdir()
    (folder / "there.csv").write_text("", encoding="utf-8")
    os.mkfifo(folder / "pipe.csv")


@pytest.mark.parametrize(
    ("inputs", "options", "sentence"),
    [
        (["no.csv"], {}, "'no.csv': there is no such file, folder or pattern"),
        (["nothing"], {}, "'nothing': there is no such"),
        (["x*.csv"], {}, r"'x\*\.csv': there is no such"),
        (["pipe.csv"], {}, r"pipe\.csv: is no regular file; write its content to one"),
        (["notes.txt"], {}, r"notes\.txt: must end in \.csv or \.parquet; rename or convert it"),
        (["missing.csv"], {}, r"missing\.csv: has no column 'value', which the model needs; add it"),
        (["cased.csv"], {}, r"cased\.csv: has no column 'value', which the model needs; it has 'Value'"),
        (["typed.parquet"], {}, r"typed\.parquet: column 'value' is timestamp\[ms\], must hold FP32; convert"),
        (["twice.csv"], {}, r"twice\.csv: has 2 columns 'value'; rename all but one"),
        (["empty.csv"], {}, r"empty\.csv: can't be read as csv \('Empty CSV file'\); replace it"),
        (["torn.parquet"], {}, r"torn\.parquet: can't be read as parquet \(.*\); replace it"),
        (["in.parquet", "missing.csv"], {}, r"missing\.csv: has no column 'value'"),
        (["in.parquet"], {"keys": ("id",)}, r"in\.parquet: has no column 'id', which the command names"),
        (["in.parquet"], {"date": "day"}, r"in\.parquet: has no column 'day', which the command names"),
        (["total.csv"], {"keys": ("total",)}, r"total\.csv: the output has another column 'total'; rename"),
        (
            ["number.parquet", "text.parquet"],
            {"keys": ("id",)},
            r"text\.parquet: column 'id' is string, in the first file int64; convert one of them",
        ),
        (["in.parquet"], {"output": "there.csv"}, r"there\.csv: exists; name another output, or .*--replace"),
        (["in.parquet"], {"output": "in.parquet", "replace": True}, r"in\.parquet: is both input and output"),
        (["."], {"output": "sub/out.csv"}, r"sub/out\.csv: lies in the input folder \."),
        (["in.parquet"], {"output": "out.json"}, r"out\.json: must end in \.csv or \.parquet, which says what"),
        (
            ["in.parquet"],
            {"output": "notes.txt/out.csv"},
            r"notes\.txt/out\.csv.*: can't be written \(Not a dir",
        ),
    ],
)
def test_what_is_wrong_from_the_start_is_one_sentence_and_nothing_is_written(
    given: Job, inputs: list[str], options: dict[str, Any], sentence: str
) -> None:
    prepare(given.folder)
    before = sorted(given.folder.rglob("*"))
    with pytest.raises(OperatorError, match=sentence) as refusal:
        given.run(*inputs, **options)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).endswith(".")
    assert sorted(given.folder.rglob("*")) == before


def test_static_features_in_part_and_no_key_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = FeatureSet(tiny(static=True).manifest.features.entity, tiny().manifest.features.real_time, ())
    changed = replace(tiny(), manifest=replace(tiny().manifest, features=two))
    lay = lay_out(folder, changed, monkeypatch)
    write(folder / "in.csv", {"base": [1.0]})
    with pytest.raises(OperatorError, match=r"in\.csv: has base and no value; give all static features, or the key"):
        lay.run("in.csv")


def test_a_model_that_is_not_there_is_one_sentence(given: Job) -> None:
    given.folder.joinpath("artifacts").rename(given.folder / "elsewhere")
    with pytest.raises(OperatorError, match=r"is not in artifacts; fetch it with `make versions ARGS=fetch`"):
        given.run("in.parquet")


def test_the_exit_code_and_the_summary_say_that_rows_were_refused(
    given: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    write(given.folder / "bad.csv", {"base": ["x", "1", "1"], "value": ["1", "1", "y"]})
    assert main(["bad.csv", "--output", "out.csv"]) == 3
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows"], summary["rejected"], summary["rejected_file"]) == (1, 2, "out.csv.rejected.csv")
    assert main(["in.parquet", "--output", "out.csv", "--replace"]) == 0
    assert json.loads(capsys.readouterr().out)["rejected_file"] is None


@pytest.mark.parametrize(
    "option", [["--max-rejected", "-1"], ["--threads", "0"], ["--rows", "x"], ["--timeout", "soon"]]
)
def test_a_wrong_option_is_refused_by_its_name(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(["in.parquet", "--output", "out.csv", *option])
    assert refusal.value.code == 2
    assert f"argument {option[0]}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("", r"ray is not installed in this environment; `ENGINE=ray make score` makes one with Ray\."),
        (
            "127.0.0.1:1",
            r"RAY_ADDRESS='127\.0\.0\.1:1': can't join a Ray cluster there \(Connection refused\); start",
        ),
        ("127.0.0.1:65536", r"RAY_ADDRESS='127\.0\.0\.1:65536': can't join a Ray cluster there \(.+\); start"),
        ("ray://head:10001", r"RAY_ADDRESS='ray://head:10001': must be HOST:PORT or auto; run the command on a node"),
    ],
)
def test_ray_that_is_not_there_is_one_sentence_and_nothing_is_written(
    given: Job, address: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setitem(sys.modules, "ray", None)
    before = sorted(given.folder.rglob("*"))
    with pytest.raises(OperatorError, match=sentence):
        given.run("in.parquet", engine="ray")
    assert sorted(given.folder.rglob("*")) == before


@pytest.mark.parametrize("late", [True, False])
def test_a_model_in_another_process_may_come_late_but_not_too_late(
    given: Job, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def replayed(*_arguments: object, timeout: float) -> None:
        asked.append(timeout)
        if len(asked) == 1:
            raise NotReady("the model's process gives no answer.")

    monkeypatch.setattr(model, "replay", replayed)
    monkeypatch.setattr(model, "_PAUSE_S", 0.0)
    if late:
        monkeypatch.setattr(model, "_START_TIMEOUT_S", 0.0)
        with pytest.raises(NotReady, match="gives no answer"):
            given.run("in.parquet")
    else:
        assert given.run("in.parquet").counts.rows == 100
