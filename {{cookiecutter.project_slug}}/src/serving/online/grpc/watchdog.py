"""Notice a model that never ends a call, so that the process ends and its supervisor starts it anew.

In a thread, such a model keeps its turn, and nobody else is answered. On the event loop it stops everything, this
module too: then a timer of the interpreter ends the process and writes to standard error where each thread was.
"""

from __future__ import annotations

import asyncio
import faulthandler
from collections.abc import Callable

from serving.domain.errors import ModelFailed

_TICK_S = 0.5
_SPARE_S = 1.0


async def watch(longest: Callable[[], float], call_timeout: float) -> None:
    """Watch until cancelled.

    `longest` returns for how many seconds the oldest running call has run.

    :raises ModelFailed: a call has run for longer than any may
    """
    limit = call_timeout + _SPARE_S
    try:
        while (seconds := longest()) <= limit:
            faulthandler.dump_traceback_later(limit + _TICK_S, exit=True)
            await asyncio.sleep(_TICK_S)
    finally:
        faulthandler.cancel_dump_traceback_later()
    raise ModelFailed(
        f"a model call has run for {seconds:.1f} s and can't be ended; the longest is SERVING_CALL_TIMEOUT="
        f"{call_timeout:g}. The process ends, so that its supervisor starts it anew."
    )
