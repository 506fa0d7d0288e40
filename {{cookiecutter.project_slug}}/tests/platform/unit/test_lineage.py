from __future__ import annotations

from dataclasses import replace

import pytest

from serving.domain.lineage import Lineage
from serving.offline.lineage import differences, lineage_here

PINNED = Lineage(
    "Adds",
    "c0ffee",
    "2026-01-01T00:00:00+00:00",
    f"sha256={'a' * 64}",
    {"alpha": 0.5},
    {"r2": 0.4},
    {"numpy": "2.0.0", "python": "3.12.1"},
    {"system": "Linux x86_64", "CPU": "One"},
)


@pytest.mark.parametrize(
    ("here", "message"),
    [
        ({}, []),
        ({"description": "Sums", "trained_at": "2026-02-02T00:00:00+00:00", "metrics": {"r2": 0.5}}, []),
        (
            {"data_digest": f"sha256={'b' * 64}"},
            ["the training data differs (sha256=aaaaaaaaaaaa, here sha256=bbbbbbbbbbbb)"],
        ),
        ({"parameters": {"alpha": 0.7}}, ["parameter alpha was 0.5, here 0.7"]),
        ({"parameters": {}}, ["parameter alpha was 0.5, here unknown"]),
        (
            {"libraries": {"numpy": "2.1.0", "onnx": "1.0", "python": "3.12.1"}},
            ["numpy was 2.0.0, here 2.1.0", "onnx was unknown, here 1.0"],
        ),
        ({"machine": {"system": "Linux x86_64", "CPU": "Two"}}, ["the CPU was One, here Two"]),
        ({"git_commit": "none"}, ["the commit was c0ffee, here none"]),
    ],
)
def test_only_what_can_change_a_model_is_a_difference(here: dict[str, object], message: list[str]) -> None:
    assert differences(PINNED, replace(PINNED, **here)) == message  # type: ignore[arg-type]


def test_a_lineage_records_machine_and_python() -> None:
    lineage = lineage_here("Adds", "sha256=0", {}, {}, {"numpy": "2.0.0"})
    assert lineage.libraries.keys() == {"numpy", "python"}
    assert all(lineage.machine.values())
    assert differences(lineage, lineage_here("Adds", "sha256=0", {}, {}, {"numpy": "2.0.0"})) == []
