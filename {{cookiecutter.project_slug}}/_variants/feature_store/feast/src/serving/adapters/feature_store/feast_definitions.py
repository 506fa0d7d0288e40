"""Feast's entity and view, generated from the feature declaration."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from feast import Entity, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Bytes, FeastType, String

from serving.adapters.feature_store.feast_values import feast_type
from serving.domain.features import Entity as DeclaredEntity
from serving.domain.features import Feature

VIEW = "static_features"
WATERMARK_VIEW = "materialization"
WATERMARK = "watermark"
WATERMARK_ENTITY = Entity(name="materialization_job", value_type=ValueType.STRING)
_FOR_EVER = timedelta(0)


def entity_of(declared: DeclaredEntity) -> Entity:
    """Return the entity; its key is bytes, as in a request."""
    return Entity(name=declared.name, value_type=ValueType.BYTES, description=declared.description)


def view_of(entity: Entity, features: Sequence[Feature], kept: Sequence[Field] = ()) -> FeatureView:
    """Return the view with all static features: one row per entity, read in one round trip.

    Values of any age are served; the server counts those older than declared. `kept` are fields already in the
    registry; a feature of the same name replaces one.
    """
    fields = [
        Field(name=each.name, dtype=feast_type(each), description=each.description, tags={"unit": each.unit})
        for each in features
    ]
    named = {field.name for field in fields}
    return _view(VIEW, entity, Bytes, [*fields, *(field for field in kept if field.name not in named)])


def watermark_view() -> FeatureView:
    """Return the view with the watermark of the last materialization: one row."""
    return _view(WATERMARK_VIEW, WATERMARK_ENTITY, String, [Field(name=WATERMARK, dtype=String)])


def _view(name: str, entity: Entity, key_type: FeastType, fields: list[Field]) -> FeatureView:
    # Feast requires an offline source for every view. Nothing reads it: rows are pushed.
    offline = FileSource(name=f"{name}_offline", path=f"data/{name}.parquet", timestamp_field="event_time")
    source = PushSource(name=f"{name}_push", batch_source=offline)
    schema = [Field(name=entity.join_key, dtype=key_type), *fields]
    return FeatureView(name=name, entities=[entity], ttl=_FOR_EVER, schema=schema, source=source)
