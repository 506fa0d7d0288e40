from __future__ import annotations

import pytest

from serving.domain.features import Feature, Missing
from serving.prediction.fallback import Fallback, FallbackPolicy, Substitutes

DECLARED = Feature("age", default=50.0, missing=Missing.LAST_KNOWN)
NOTHING = Substitutes()


@pytest.mark.parametrize(
    ("unknown", "unavailable", "for_unknown", "for_unavailable"),
    [
        # A last known value would bring back what may have been deleted.
        (Fallback.DEFAULT, Fallback.DEFAULT, Substitutes(False, 50.0), Substitutes(True, 50.0)),
        (Fallback.DEFAULT, Fallback.REFUSE, Substitutes(False, 50.0), NOTHING),
        (Fallback.REFUSE, Fallback.DEFAULT, NOTHING, Substitutes(True, 50.0)),
        (Fallback.REFUSE, Fallback.REFUSE, NOTHING, NOTHING),
    ],
)
def test_the_settings_forbid_what_a_feature_declares_for_each_case_separately(
    unknown: Fallback, unavailable: Fallback, for_unknown: Substitutes, for_unavailable: Substitutes
) -> None:
    policy = FallbackPolicy.resolve(DECLARED, unknown=unknown, unavailable=unavailable)
    assert policy == FallbackPolicy(DECLARED, for_unknown, for_unavailable)


def test_a_feature_that_declares_nothing_has_no_substitute() -> None:
    policy = FallbackPolicy.resolve(Feature("age"), unknown=Fallback.DEFAULT, unavailable=Fallback.DEFAULT)
    assert (policy.unknown, policy.unavailable) == (NOTHING, NOTHING)
