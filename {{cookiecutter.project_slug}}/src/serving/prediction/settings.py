"""What the operator allows to stand in for missing features, online and in batch."""

from __future__ import annotations

from serving.domain.settings import SharedSettings
from serving.prediction.fallback import Fallback


class PredictionSettings(SharedSettings):
    """Hold the fallback policy beside the shared settings."""

    store_unavailable: Fallback = Fallback.REFUSE
    """While the feature store is unavailable: `refuse` the call as UNAVAILABLE, or `default` to what they declare."""
    unknown_entity: Fallback = Fallback.DEFAULT
    """For an unknown entity: `refuse` the call as NOT_FOUND, or use the features' `default`, flagged."""
