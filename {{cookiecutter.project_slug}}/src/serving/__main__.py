"""Serve the model that model.lock names: `python -m serving`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from serving.domain.errors import ModelFailed, OperatorError
from serving.online.grpc.server import serve
from serving.online.settings import load_settings
from serving.online.telemetry import configure_logging

# A model in a thread waits this long for the interpreter while the event loop is busy, ten times as long by default.
_SWITCH_S = 0.0005


def main() -> int:
    """Serve until stopped; return the exit code."""
    sys.setswitchinterval(_SWITCH_S)
    try:
        settings = load_settings()
        configure_logging(settings.log_level)
        asyncio.run(serve(settings))
    except (ModelFailed, OperatorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # Not sys.exit: it waits for threads, even for a model call that never returns.
    os._exit(code)
