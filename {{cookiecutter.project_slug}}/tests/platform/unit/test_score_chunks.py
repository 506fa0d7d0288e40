from __future__ import annotations

from pathlib import Path

import pytest

from serving.domain.errors import OperatorError
from serving.offline.score import chunks, files
from serving.offline.score.chunks import Chunk
from tests.platform.support.scoring import write

START = (0, 0, 0)
ROWS = 3000


def read(paths: list[Path], start: chunks.Place = START, rows: int = 100) -> list[Chunk]:
    found = files.find([str(path) for path in paths], paths[0].with_name("out.csv"))
    return list(chunks.read(found, [["a"]] * len(found), rows, start))


def content(found: list[Chunk]) -> list[tuple[int, object]]:
    """Return number and value of every row."""
    return [
        pair for chunk in found for pair in zip(chunk.numbers.tolist(), chunk.columns["a"].to_pylist(), strict=True)
    ]


@pytest.fixture
def table(folder: Path) -> Path:
    write(folder / "in.parquet", {"a": list(range(ROWS)), "b": ["x"] * ROWS}, row_group_size=130)
    return folder / "in.parquet"


@pytest.fixture
def text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file in which every seventh row has a column too few, and two rows in a row have one too many."""
    monkeypatch.setattr(chunks, "_BLOCK_BYTES", 1000)
    lines = [f"{row},{row}" if row % 7 else f"{row}" for row in range(1, ROWS + 1)]
    lines[50] = lines[51] = "1,2,3"
    (folder / "in.csv").write_text("a,b\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return folder / "in.csv"


def test_every_row_of_a_parquet_file_comes_once_under_its_number(table: Path) -> None:
    found = read([table])
    assert content(found) == [(row + 1, row) for row in range(ROWS)]
    assert max(chunk.columns.num_rows for chunk in found) <= 100


def test_small_row_groups_are_read_together(table: Path) -> None:
    assert len(read([table], rows=ROWS)) == 1


def test_rows_that_cannot_be_split_are_named_and_the_others_keep_their_numbers(text: Path) -> None:
    found = read([text])
    bad = {row for row in range(1, ROWS + 1) if not row % 7} | {51, 52}
    assert content(found) == [(row, b"%d" % row) for row in range(1, ROWS + 1) if row not in bad]
    rejected = {row: reason for chunk in found for row, reason in chunk.rejected.items()}
    assert set(rejected) == bad
    assert (rejected[7], rejected[51]) == ("has 1 columns, the header has 2", "has 3 columns, the header has 2")


@pytest.mark.parametrize("name", ["table", "text"])
def test_reading_goes_on_after_any_chunk_with_the_very_rest(name: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    whole = read([path, path.with_name(path.name)])
    for place in range(0, len(whole), 7):
        rest = read([path], whole[place].after)
        assert content(rest) == content(whole[place + 1 :])
        assert [chunk.rejected for chunk in rest] == [chunk.rejected for chunk in whole[place + 1 :]]


def test_sections_that_are_read_apart_give_the_same_chunks(table: Path, text: Path) -> None:
    found = files.find([str(table), str(text)], table.with_name("out.csv"))
    columns, whole = [["a"]] * 2, read([table, text])
    assert len(chunks.sections(found, 100, START)) > 2
    for done in range(0, len(whole), 7):
        start = whole[done - 1].after if done else START
        places = chunks.sections(found, 100, start)
        assert len(places) == len(set(places))
        apart = [chunk for place in places for chunk in chunks.read_section(found, columns, 100, place)]
        assert content(apart) == content(whole[done:])
        assert [(chunk.after, chunk.rejected) for chunk in apart] == [
            (chunk.after, chunk.rejected) for chunk in whole[done:]
        ]


def test_rejected_rows_at_the_end_of_a_file_are_reported(folder: Path) -> None:
    (folder / "in.csv").write_text("a,b\n1,2\n3\n", encoding="utf-8")
    found = read([folder / "in.csv"])
    assert [row for chunk in found for row in chunk.rejected] == [2]
    assert read([folder / "in.csv"], found[-1].after) == []


def test_a_value_may_hold_a_line_break_and_a_mark_of_the_encoding_may_stand_first(folder: Path) -> None:
    (folder / "in.csv").write_bytes(b'\xef\xbb\xbfa,b\r\n"x\ny",2\r\n\r\nz,4\r\n')
    assert content(read([folder / "in.csv"])) == [(1, b"x\ny"), (2, b"z")]


def test_a_file_that_changes_while_it_is_read_ends_the_run(text: Path) -> None:
    found = files.find([str(text)], text.with_name("out.csv"))
    reader = chunks.read(found, [["a"]], 100, START)
    next(reader)
    with text.open("a") as more:
        more.write("1,2\n")
    with pytest.raises(OperatorError, match=r"in\.csv: has changed since the run began; .*--restart"):
        list(reader)
