from __future__ import annotations

from pathlib import Path

from serving.adapters.feature_store import READERS
from serving.domain.features import Entity, Feature, FeatureSet
from serving.domain.no_store import NoStore
from serving.domain.ports import FeatureStore
from serving.domain.settings import default_store_url
from tests.platform.contract.feature_store_contract import FeatureReaderContract

FEATURES = FeatureSet(Entity("key"), (Feature("age"),), (Feature("value"),))


class TestNoStore(FeatureReaderContract):
    def reader(self, folder: Path) -> FeatureStore:
        url = default_store_url()
        return READERS[url.partition(":")[0]](url)


def test_callers_send_every_feature_and_no_key() -> None:
    inputs = FEATURES.request_inputs(NoStore().supplies(FEATURES))
    assert [spec.name for spec in inputs] == ["age", "value"]


async def test_reading_no_feature_returns_nothing() -> None:
    assert await NoStore().read([], [], timeout=1.0) == {}
