"""The Neptune adapter, with its client in this process instead of a child process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.adapters.model_registry.neptune import Call
from serving.adapters.model_registry.neptune_access import Access
from serving.adapters.model_registry.neptune_calls import parse_response, request_for
from serving.adapters.model_registry.neptune_process import perform


def asking(client: Any, access: Access) -> Call:
    """Return a call that runs in this process, where the adapter starts a child process."""

    def ask(work: str, arguments: Mapping[str, Any], _timeout: float) -> Any:
        return parse_response(perform(client, request_for(access, work, arguments)), access)

    return ask
