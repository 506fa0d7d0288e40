"""Batch scoring that is stopped: nothing half-written, and the same command goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from serving.domain.errors import OperatorError
from serving.offline.score import work
from tests.platform.support.fakes import FakeStore
from tests.platform.support.scoring import (
    DURABLE,
    ENVIRONMENT,
    KEYS,
    OUTPUT,
    SMALL,
    VALUES,
    Job,
    command,
    count_durable,
    numbers,
    write,
)

VALUE = {"value": [0.5] * 100}


def test_a_store_that_gives_no_answer_ends_the_run_which_then_goes_on(job: Job, store: FakeStore) -> None:
    write(job.folder / "in.parquet", {"key": KEYS * 10, "value": VALUES * 10})
    whole = job.run("in.parquet", output="out1.parquet", rows=4, part_rows=8)
    reads = store.reads
    store.unavailable = True
    with pytest.raises(OperatorError, match=r"the feature store can't be read\. Nothing was published; the same comm"):
        job.run("in.parquet", output="out2.parquet", rows=4, part_rows=8)
    assert "out2.parquet" not in job.left()
    store.unavailable = False
    assert job.run("in.parquet", output="out2.parquet", rows=4, part_rows=8).counts == whole.counts
    assert store.reads == 2 * reads + 1
    assert job.table("out1.parquet") == job.table("out2.parquet")


@pytest.mark.parametrize(("most", "done"), [(20_000, 0), (1_000_000, 20_000)])
def test_a_write_that_fails_ends_the_run_which_then_goes_on(given: Job, most: int, done: int) -> None:
    """As on a full disk, the system refuses to write on: in a part, or in the output, which is larger."""
    write(given.folder / "in.parquet", numbers(20_000))
    given.run("in.parquet", output="undisturbed.csv", rows=100)
    words = command("full", str(most))
    full = subprocess.run(
        words, cwd=given.folder, env=ENVIRONMENT, check=False, timeout=TIMEOUT_S, stderr=subprocess.PIPE, text=True
    )
    assert full.returncode == 1
    says = "error: File too large. Nothing was published; the same command goes on after row"
    assert full.stderr == f"{says} {done}, from out.csv.work.\n"
    assert given.left() == {"out.csv.work"}
    assert given.run("in.parquet", output="out.csv", rows=100).resumed == done
    assert (given.folder / "out.csv").read_bytes() == (given.folder / "undisturbed.csv").read_bytes()


@pytest.mark.parametrize("other", ["input", "SERVING_UNKNOWN_ENTITY", "keys or date"])
def test_parts_of_another_run_are_not_mixed_in(given: Job, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("serving.offline.score.result.publish", stop)
        with pytest.raises(OperatorError):
            given.run("in.parquet")
    keys: tuple[str, ...] = ()
    if other == "input":
        write(given.folder / "in.parquet", numbers(50))
    elif other == "keys or date":
        keys = ("base",)
    else:
        monkeypatch.setenv(other, "refuse")
    with pytest.raises(OperatorError, match=rf"out\.parquet\.work: holds .* a run with another {other}; go on"):
        given.run("in.parquet", keys=keys)
    assert given.run("in.parquet", restart=True, keys=keys).resumed == 0
    assert len(given.table()["total"]) == (50 if other == "input" else 100)


def test_parts_that_a_killed_run_was_removing_are_not_mixed_in(given: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_folder: Path, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as removing:
        removing.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            given.run("in.parquet")
    assert (given.folder / "out.parquet.work" / "part-000000.json").exists()
    write(given.folder / "in.parquet", numbers(50))
    summary = given.run("in.parquet", replace=True)
    assert (summary.resumed, summary.counts.rows) == (0, 50)
    assert given.left() == {"out.parquet"}


def test_two_runs_cannot_write_the_same_output(given: Job) -> None:
    with (
        work.opened(Path("out.parquet"), {}, restart=False),
        pytest.raises(OperatorError, match=r"out\.parquet: another run is writing it; wait for its end"),
    ):
        given.run("in.parquet")


def test_an_output_is_replaced_only_on_demand_and_its_refused_rows_with_it(given: Job) -> None:
    write(given.folder / "bad.csv", {"base": ["x", "1"], "value": ["1", "1"]})
    given.run("bad.csv")
    assert given.left() == {"out.parquet", "out.parquet.rejected.csv"}
    given.run("in.parquet", replace=True)
    assert given.left() == {"out.parquet"}
    assert len(given.table()["total"]) == 100


TIMEOUT_S = 60.0


def results(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in (OUTPUT, f"{OUTPUT}.rejected.csv")]


def test_a_run_that_was_killed_at_any_moment_goes_on_and_gives_the_same_bytes(
    given: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(given.folder / "in.parquet", {"base": [float("nan") if row % 9 == 4 else row for row in range(100)]} | VALUE)
    steps: list[None] = []
    with monkeypatch.context() as counting:
        counted = count_durable(lambda: steps.append(None))
        for name in DURABLE:
            counting.setattr(os, name, counted(name))
        given.run("in.parquet", **SMALL)
    undisturbed = results(given.folder)
    for step in random.Random(len(steps)).sample(range(len(steps)), 5):
        (given.folder / OUTPUT).unlink()
        killed = subprocess.run(
            command("die", str(step)), cwd=given.folder, env=ENVIRONMENT, check=False, timeout=TIMEOUT_S
        )
        assert killed.returncode == -signal.SIGKILL
        if not (given.folder / OUTPUT).exists():
            given.run("in.parquet", **SMALL)
        assert results(given.folder) == undisturbed


def test_memory_does_not_grow_with_the_file(given: Job) -> None:
    peaks = []
    for count in (20_000, 200_000):
        name = f"{count}.parquet"
        rows = {**numbers(count), "pad": ["x" * 500] * count}
        write(given.folder / name, rows, row_group_size=8192, use_dictionary=False)
        measured = subprocess.run(
            command("peak", name),
            cwd=given.folder,
            env=ENVIRONMENT,
            check=True,
            timeout=TIMEOUT_S,
            stdout=subprocess.PIPE,
        )
        peaks.append(int(measured.stdout))
    assert peaks[1] - peaks[0] < 30 << 20  # the rows that are more have 90 MB
