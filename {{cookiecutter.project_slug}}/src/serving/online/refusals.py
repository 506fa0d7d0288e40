"""What refusals of every transport have in common."""

from __future__ import annotations

import re

from serving.domain import errors

NO_RETRY = (errors.FeatureStoreUnavailable,)
"""Refusals that every replica would repeat: callers should not try again at once."""

INTERNAL_TEXT = "internal error; the server's log has the detail under this request id."
"""The text of an internal error; exception texts never reach a caller."""

MAX_TEXT = 500

REQUEST_ID_KEY = "x-request-id"
"""The metadata key or header of a request id."""

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


def safe_id(text: str) -> str:
    """Return a caller's request id; empty if it isn't safe to log."""
    return text if _REQUEST_ID.fullmatch(text) else ""
