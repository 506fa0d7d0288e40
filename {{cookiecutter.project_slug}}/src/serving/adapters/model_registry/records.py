"""Records that registries store as text."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from serving.domain.errors import RegistryError
from serving.domain.ports import Promotion


def parse_promotion(content: str | bytes, where: str) -> Promotion:
    """Read a promotion from JSON; `where` names its place in messages.

    :raises RegistryError: it can't be read
    """
    try:
        return TypeAdapter(Promotion).validate_json(content)
    except ValidationError:
        raise RegistryError(f"{where} can't be read; restore it.") from None
