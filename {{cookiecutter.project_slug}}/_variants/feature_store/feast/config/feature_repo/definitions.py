"""Feast's definitions, generated from model/features.py: add features there, not here."""

from __future__ import annotations

from model.features import FEATURES
from serving.adapters.feature_store.feast_definitions import WATERMARK_ENTITY, entity_of, view_of, watermark_view

ENTITY = entity_of(FEATURES.entity)
VIEW = view_of(ENTITY, FEATURES.static)
JOB = WATERMARK_ENTITY
MATERIALIZATION = watermark_view()
