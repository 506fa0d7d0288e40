"""Open the feature store that a URL names."""

from __future__ import annotations

from serving.adapters.feature_store import READERS
from serving.domain.errors import SettingsError, quoted
from serving.domain.ports import FeatureStore


def open_store(url: str) -> FeatureStore:
    """Open the store at a URL for reading.

    :raises SettingsError: this repo has no such store
    """
    scheme = url.partition(":")[0]
    if scheme not in READERS:
        raise SettingsError(
            f"SERVING_FEATURE_STORE={quoted(url)}: this repo can open {', '.join(f'{known}:' for known in READERS)}."
        )
    return READERS[scheme](url)
