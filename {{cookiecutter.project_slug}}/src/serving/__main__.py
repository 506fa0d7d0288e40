"""Serve the model that model.lock names: `python -m serving`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from serving.domain.errors import OperatorError
from serving.online.grpc.server import serve
from serving.online.settings import load_settings
from serving.online.telemetry import configure_logging


def main() -> int:
    """Serve until stopped; return the exit code."""
    try:
        settings = load_settings()
        configure_logging(settings.log_level)
        asyncio.run(serve(settings))
    except OperatorError as error:
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
