from __future__ import annotations

import sys

import numpy as np
import pytest

from serving.domain.errors import SettingsError
from serving.domain.tensors import Datatype, Tensors, TensorSpec, row_bytes
from serving.online import memory
from serving.online.budget import Budget, before_the_model_ran, work_of_a_row

MB = 1 << 20
IMAGE = TensorSpec("image", Datatype.FP32, (-1, 224, 224, 3))


def test_what_is_free_is_shared_out() -> None:
    budget = Budget(limit=1000 * MB, occupied=100 * MB)
    assert (budget.free, budget.requests, budget.last_known) == (800 * MB, 80 * MB, 100 * MB)


def test_shares_never_exceed_what_is_free() -> None:
    budget = Budget(limit=1000 * MB, occupied=100 * MB, row_request=MB, row_work=MB)
    work = budget.rows * budget.row_work
    assert budget.requests * 5 + budget.last_known + work <= budget.free


def test_a_process_that_fills_its_limit_has_nothing_to_share() -> None:
    assert Budget(limit=100 * MB, occupied=200 * MB).requests == 0


def test_a_large_request_has_fewer_rows() -> None:
    budget = Budget(limit=512 * MB, occupied=112 * MB, row_request=row_bytes(IMAGE))
    assert row_bytes(IMAGE) == 224 * 224 * 3 * 4
    assert budget.choose_rows(1024, explicit=False) == 60
    assert budget.choose_rows(60, explicit=True) == 60
    with pytest.raises(SettingsError) as refusal:
        budget.choose_rows(61, explicit=True)
    assert str(refusal.value) == (
        "SERVING_MAX_ROWS=61: 512 MB of memory are too little: 112 MB are occupied, and for one row the request has up "
        "to 0.6 MB and the model takes 0.0 MB; set at most 60, or raise the container's limit (mem_limit in "
        "compose/base.yaml)."
    )


def test_the_models_work_limits_the_rows_too() -> None:
    assert Budget(limit=1000 * MB, occupied=100 * MB, row_work=MB).rows == 200
    assert Budget(limit=1000 * MB, occupied=100 * MB, row_work=MB, concurrency=2).rows == 100


def test_a_limit_without_room_for_one_row_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="512 MB of memory are too little: 460 MB .*raise the container"):
        Budget(limit=512 * MB, occupied=460 * MB, row_request=MB).choose_rows(1024, explicit=False)


def test_the_budget_of_this_process_has_room() -> None:
    budget = before_the_model_ran([IMAGE])
    assert 0 < budget.occupied < budget.limit
    assert budget.row_request == row_bytes(IMAGE)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much a process occupies")
async def test_the_work_of_a_row_is_measured() -> None:
    batches: list[int] = []

    async def hungry(inputs: Tensors) -> Tensors:
        batches.append(len(inputs["x"]))
        return {"y": np.ones((len(inputs["x"]), 8 * MB), np.uint8)}

    work = await work_of_a_row(hungry, {"x": np.ones(3)}, most=1024)
    assert batches == [1, 2, 4, 8]
    assert 7 * MB <= work <= 12 * MB


async def test_no_batch_is_larger_than_what_fits() -> None:
    batches: list[int] = []

    async def frugal(inputs: Tensors) -> Tensors:
        batches.append(len(inputs["x"]))
        return inputs

    assert await work_of_a_row(frugal, {"x": np.ones(3)}, most=2) == 0
    assert max(batches, default=0) <= 2


def test_without_a_known_limit_four_gigabytes_are_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "resident", lambda: None)
    for known, limit in ((None, 4096 * MB), (100 * MB, 100 * MB)):
        monkeypatch.setattr(memory, "limit", lambda known=known: known)
        budget = before_the_model_ran([IMAGE, IMAGE])
        assert (budget.limit, budget.occupied, budget.row_request) == (limit, 0, 2 * row_bytes(IMAGE))


@pytest.mark.parametrize(
    ("most", "peaks", "work", "shapes"),
    [
        (1, [9 * MB], 0, [(1, 2, 3)]),
        (2, [10 * MB, 14 * MB], 4 * MB, [(1, 2, 3), (2, 2, 3)]),
        (3, [10 * MB, 11 * MB], MB, [(1, 2, 3), (2, 2, 3)]),
        (2, [10 * MB, 11 * MB - 1], 0, [(1, 2, 3), (2, 2, 3)]),  # an allocator's piece, not the model's
        (8, [10 * MB, 1, 2, 24 * MB], 2 * MB, [(1, 2, 3), (2, 2, 3), (4, 2, 3), (8, 2, 3)]),
        (2, [None, 3 * MB], 3 * MB, [(1, 2, 3), (2, 2, 3)]),
    ],
)
async def test_the_work_of_a_row_is_the_growth_from_the_smallest_to_the_largest_batch(
    monkeypatch: pytest.MonkeyPatch, most: int, peaks: list[int | None], work: int, shapes: list[tuple[int, ...]]
) -> None:
    found = iter(peaks)
    monkeypatch.setattr(memory, "reset_peak", lambda: True)
    monkeypatch.setattr(memory, "peak", lambda: next(found))
    asked: list[tuple[int, ...]] = []

    async def call(inputs: Tensors) -> Tensors:
        asked.append(inputs["x"].shape)
        return inputs

    assert await work_of_a_row(call, {"x": np.ones((2, 2, 3))}, most) == work
    assert asked == shapes


def test_a_refusal_says_what_a_row_takes() -> None:
    budget = Budget(limit=100 * MB, occupied=80 * MB, row_request=MB // 2, row_work=MB)
    with pytest.raises(SettingsError) as refusal:
        budget.choose_rows(3, explicit=True)
    assert str(refusal.value) == (
        "SERVING_MAX_ROWS=3: 100 MB of memory are too little: 80 MB are occupied, and for one row the request has up "
        "to 0.5 MB and the model takes 1.0 MB; set at most 2, or raise the container's limit (mem_limit in "
        "compose/base.yaml)."
    )
