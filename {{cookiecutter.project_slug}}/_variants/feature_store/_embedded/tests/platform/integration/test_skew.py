"""No training-serving skew: values read through the store equal the training data bit by bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from model.features import FEATURES
from serving.adapters.feature_store.sqlite import SqliteStore
from serving.domain.deadline import Deadline
from serving.domain.tensors import Tensors
from serving.modeling import History
from serving.offline import user_model
from serving.offline.materialize import materialize
from serving.prediction.enrichment import Enricher
from serving.prediction.fallback import Fallback
from tests.platform.support.services import Observed

# Nothing is read from the store then: test_materialize.py tests that nothing is written either.
pytestmark = pytest.mark.skipif(not FEATURES.static, reason="this model has no static features")

LONG_S = 60.0


async def served(past: History, folder: Path) -> Tensors:
    """Return the model's inputs for every training row, read through the store."""
    data = user_model.dataset()
    store = SqliteStore(folder / "features.db")
    materialize(past, FEATURES, store, until=int(past.times.max()))
    enricher = Enricher(store, FEATURES, Observed(), timeout=LONG_S, unknown_entity=Fallback.REFUSE)
    request = {feature.name: feature.tensor(data.columns[feature.name]) for feature in FEATURES.real_time}
    keys = np.array([entity.encode() for entity in data.entities], object)
    enriched = await enricher.enrich({FEATURES.entity.name: keys, **request}, Deadline(LONG_S))
    await store.close()
    return enriched.inputs


def differing(trained: Tensors, online: Tensors) -> list[str]:
    """Return the features with different bits, or the order if that differs."""
    if list(trained) != list(online):
        return ["order"]
    return [name for name in trained if bits(trained[name]) != bits(online[name])]


def bits(column: npt.NDArray[Any]) -> bytes | list[bytes]:
    return column.tolist() if column.dtype.hasobject else column.tobytes()


async def test_every_training_row_is_identical_when_read_through_the_store(folder: Path) -> None:
    assert differing(FEATURES.assemble(user_model.dataset().columns), await served(user_model.history(), folder)) == []


def last_bit_turned(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a column whose last value differs in one bit."""
    turned = column.copy()
    if turned.dtype.hasobject:
        turned[-1] = turned[-1][:-1] + (chr(ord(turned[-1][-1]) ^ 1) if isinstance(turned[-1], str) else b"?")
    else:
        turned[-1:].view(np.uint8).flat[0] ^= 1  # little-endian: the last bit of the first element
    return turned


@pytest.mark.parametrize("feature", [feature.name for feature in FEATURES.static])
async def test_a_difference_in_the_last_bit_of_one_value_is_detected(folder: Path, feature: str) -> None:
    past = user_model.history()
    changed = replace(past, columns={**past.columns, feature: last_bit_turned(past.columns[feature])})
    assert differing(FEATURES.assemble(user_model.dataset().columns), await served(changed, folder)) == [feature]
