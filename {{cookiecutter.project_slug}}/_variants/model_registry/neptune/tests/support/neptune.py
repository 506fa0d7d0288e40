"""Neptune's adapter, with its client in this process instead of one of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.adapters.neptune_access import Access
from serving.adapters.neptune_calls import request_for, understood
from serving.adapters.neptune_process import perform
from serving.adapters.neptune_registry import Call


def asking(client: Any, access: Access) -> Call:
    """Return what stands in for the call of a child process."""

    def ask(work: str, arguments: Mapping[str, Any], _timeout: float) -> Any:
        return understood(perform(client, request_for(access, work, arguments)), access)

    return ask
