"""Fill Feast's online store and registry; blocking, for batch jobs."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from feast import Entity, FeatureView, Field
from feast import FeatureStore as Feast
from feast.errors import FeastObjectNotFoundException
from feast.infra.provider import get_provider
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from serving.adapters.feature_store.feast import FAILURES, configuration_of, open_feast, registry_file
from serving.adapters.feature_store.feast_definitions import (
    VIEW,
    WATERMARK,
    WATERMARK_ENTITY,
    WATERMARK_VIEW,
    view_of,
    watermark_view,
)
from serving.adapters.feature_store.feast_online import ErasableSqliteOnlineStore, WholeRedisOnlineStore
from serving.adapters.feature_store.feast_values import to_values
from serving.adapters.feature_store.writer_lock import only_writer
from serving.domain.errors import FeatureStoreUnavailable, SettingsError, quoted
from serving.domain.features import Feature
from serving.domain.ports import FeatureRows

_DEFINITIONS = "definitions.py"
_SOCKET_TIMEOUT_S = 5.0
_WRITER_TIMEOUT_S = 30.0
Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]


class FeastWriter:
    """Apply the feature repo, then write rows.

    `definitions.py` beside the configuration names the entity. A write adds its features to the view, so the registry
    knows every feature that was ever written, as the store does.
    """

    def __init__(self, configuration: Path) -> None:
        self._configuration = configuration

    @classmethod
    def open(cls, url: str) -> FeastWriter:
        """Open `feast:<path of a feature_store.yaml>`; the first write connects."""
        configuration = configuration_of(url)
        if not configuration.is_file():
            raise SettingsError(
                f"feature store {quoted(url)}: {quoted(configuration.name)} does not exist; correct the path."
            )
        return cls(configuration)

    def write(self, rows: FeatureRows, *, replace: bool = False) -> None:
        """Insert or replace one row per entity, all or none; a watermark follows the rows.

        With `replace`, a second step then removes every other entity.
        """
        cells = {feature.name: to_values(feature, rows.columns[feature.name]) for feature in rows.features}
        entity = self._entity()
        keys = [EntityKey(join_keys=[entity.join_key], entity_values=[Value(bytes_val=key)]) for key in rows.entities]
        records: list[Row] = [
            (key, {name: column[row] for name, column in cells.items()}, _instant(date), None)
            for row, (key, date) in enumerate(zip(keys, rows.dates(), strict=True))
        ]
        try:
            registry = registry_file(self._open())
            registry.parent.mkdir(parents=True, exist_ok=True)
            # Registry, rows and watermark are three writes, which another run must not interleave.
            with only_writer(registry, timeout=_WRITER_TIMEOUT_S):
                view = self._apply(entity, rows.features)
                feast = self._open()
                provider = get_provider(feast.config)
                provider.online_write_batch(feast.config, view, records, None)
                if rows.watermark:
                    provider.online_write_batch(feast.config, watermark_view(), [_watermark_row(rows.watermark)], None)
                if replace:
                    _online(provider).retain(feast.config, view, keys)
        except FAILURES as error:
            raise FeatureStoreUnavailable(f"the feature store can't be written ({type(error).__name__}).") from error

    def watermark(self) -> str:
        """Return the watermark of the last write that had one; empty as well when Redis came back empty."""
        try:
            feast = self._open()
            if not registry_file(feast).exists():
                return ""
            job = {WATERMARK_ENTITY.join_key: WATERMARK}
            answer = feast.get_online_features([f"{WATERMARK_VIEW}:{WATERMARK}"], [job])
            return str(answer.to_dict()[WATERMARK][0] or "")
        except FAILURES as error:
            raise FeatureStoreUnavailable(f"the feature store can't be read ({type(error).__name__}).") from error

    def delete(self, entities: Sequence[bytes]) -> int:
        """Delete the rows of these entities; Feast has no call for it, so its online store does it."""
        entity = self._entity()
        keys = [EntityKey(join_keys=[entity.join_key], entity_values=[Value(bytes_val=key)]) for key in entities]
        try:
            feast = self._open()
            registry = registry_file(feast)
            if not registry.exists():
                return 0
            with only_writer(registry, timeout=_WRITER_TIMEOUT_S):
                return _online(get_provider(feast.config)).remove(feast.config, feast.get_feature_view(VIEW), keys)
        except FAILURES as error:
            raise FeatureStoreUnavailable(f"the feature store can't be written ({type(error).__name__}).") from error

    def _entity(self) -> Entity:
        entity: Entity = runpy.run_path(str(self._configuration.with_name(_DEFINITIONS)))["ENTITY"]
        return entity

    def _apply(self, entity: Entity, features: Sequence[Feature]) -> FeatureView:
        """Register the entity, the view and the features; return the view.

        Feast writes the registry file in place while a server may read it, so a copy is changed and renamed.
        """
        feast = self._open()
        present = registry_file(feast)
        staged = present.with_name(f".{present.name}.next")
        staged.unlink(missing_ok=True)
        if present.exists():
            shutil.copyfile(present, staged)
        feast.config.registry.path = str(staged)
        view = view_of(entity, features, kept=_registered(feast))
        feast.apply([entity, view, WATERMARK_ENTITY, watermark_view()])
        staged.replace(present)
        return view

    def _open(self) -> Feast:
        feast = open_feast(self._configuration)
        if hasattr(feast.config.online_store, "socket_timeout"):
            feast.config.online_store.socket_timeout = _SOCKET_TIMEOUT_S
        return feast


def _online(provider: Any) -> WholeRedisOnlineStore | ErasableSqliteOnlineStore:
    store: WholeRedisOnlineStore | ErasableSqliteOnlineStore = provider.online_store
    return store


def _registered(feast: Feast) -> list[Field]:
    try:
        return list(feast.get_feature_view(VIEW).features)
    except FeastObjectNotFoundException:
        return []


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _watermark_row(text: str) -> Row:
    key = EntityKey(join_keys=[WATERMARK_ENTITY.join_key], entity_values=[Value(string_val=WATERMARK)])
    return key, {WATERMARK: Value(string_val=text)}, datetime.now(UTC), None
