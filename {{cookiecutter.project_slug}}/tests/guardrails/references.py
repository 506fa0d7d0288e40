"""Model references: those that mean one artifact for good, and those that move."""

from __future__ import annotations

import re

FORM = "scheme:model/version#sha256=<64 hex digits>"

_STAGES = ("archived", "candidate", "challenger", "champion", "latest", "newest", "prod", "production", "staging")


def is_pinned(reference: str) -> bool:
    """Tell whether a reference has a version and a digest."""
    return re.fullmatch(r"[^:]+:[^/@#]+/[^@#]+#sha256=[0-9a-f]{64}", reference) is not None


def follows_a_stage(word: str) -> bool:
    """Tell a reference by stage (`local:model@production`, `models:/model/Production`) from other words."""
    if word.lower() == "latest":
        return True
    scheme, _, rest = word.partition(":")
    model, _, stage = rest.partition("@")
    if scheme.isalnum() and model and "//" not in rest and stage.replace("-", "").isalpha():
        return True
    name, _, last = rest.replace("@", "/").rpartition("/")
    return bool(name) and last.lower() in _STAGES
