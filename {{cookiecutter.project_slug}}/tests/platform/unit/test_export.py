from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from serving.domain.artifacts import GoldenRows, open_artifact
from serving.domain.distributions import Distributions
from serving.offline.export import Export, write_export
from tests.platform.support.artifacts import tiny

TINY = tiny()


def added(rows: int) -> GoldenRows:
    numbers = list(map(float, range(rows)))
    return GoldenRows(
        tuple(map(str, range(rows))), {"base": numbers, "value": [1.0] * rows}, {"total": [n + 1 for n in numbers]}
    )


def exported(rows: int, folder: Path) -> tuple[str, Distributions]:
    digest = write_export(Export(TINY.manifest, TINY.onnx, added, rows, TINY.lineage), folder)
    return digest, open_artifact(folder, digest).lineage.distributions


def test_the_distributions_of_all_rows_are_written_and_the_digest_does_not_cover_them(folder: Path) -> None:
    digest, found = exported(200, folder / "described")
    assert found.inputs["base"].edges == pytest.approx([19.9 * place for place in range(1, 10)])
    assert (found.inputs["value"].edges, found.inputs["value"].shares) == ((1.0,), (0.0, 1.0, 0.0))
    assert found.outputs["total"].edges == pytest.approx([19.9 * place + 1 for place in range(1, 10)])
    assert replace(TINY, golden=added(8)).write(folder / "plain") == digest


def test_too_few_rows_for_bins_have_no_distributions(folder: Path) -> None:
    assert exported(39, folder / "few")[1] == Distributions()
