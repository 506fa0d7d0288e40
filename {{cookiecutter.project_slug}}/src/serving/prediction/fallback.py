"""What answers for a static feature that could not be read: one policy per feature, resolved at start.

A feature declares what may stand in (`Missing`). The settings can forbid it, for an unknown entity and for an
unavailable store separately. The request path sees only the result.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from serving.domain.features import Feature, Missing


class Fallback(enum.StrEnum):
    """Allow or forbid what features declare."""

    DEFAULT = "default"
    """Answer with what the feature declares, flagged; refuse where it declares nothing."""

    REFUSE = "refuse"
    """Refuse the call, always."""


@dataclass(frozen=True)
class Substitutes:
    """List what may stand in for a value, in this order; none of both refuses the call."""

    last_known: bool = False
    default: float | int | bytes | None = None


@dataclass(frozen=True)
class FallbackPolicy:
    """Hold the substitutes of one feature: when the store has no value, and when it gives no answer."""

    feature: Feature
    unknown: Substitutes
    """When the store does not know the entity; what was known of it is forgotten, since it may have been deleted."""
    unavailable: Substitutes
    """When the store gives no answer, or holds nothing at all."""

    @classmethod
    def resolve(cls, feature: Feature, *, unknown: Fallback, unavailable: Fallback) -> FallbackPolicy:
        """Combine a feature's declaration with the settings."""
        declared = Substitutes(feature.missing is Missing.LAST_KNOWN, feature.default_value)
        nothing = Substitutes()
        return cls(
            feature,
            unknown=nothing if unknown is Fallback.REFUSE else replace(declared, last_known=False),
            unavailable=nothing if unavailable is Fallback.REFUSE else declared,
        )
