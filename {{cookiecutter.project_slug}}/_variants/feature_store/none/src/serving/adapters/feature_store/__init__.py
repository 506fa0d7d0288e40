"""No feature store: callers send every feature themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serving.domain.no_store import NoStore
from serving.domain.ports import FeatureStore


def _open(_url: str) -> FeatureStore:
    return NoStore()


READERS: Mapping[str, Callable[[str], FeatureStore]] = {"none": _open}
