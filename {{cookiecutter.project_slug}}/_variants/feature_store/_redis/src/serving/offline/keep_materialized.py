"""Fill the feature store at start and whenever it is empty again, until SIGTERM.

`--check` is the container's health check: its exit code says whether the store was filled at the last look. It reads
that from a file, since a store's libraries can take longer to import than a check may last.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from serving.adapters.feature_store import WRITERS
from serving.domain.errors import FeatureStoreUnavailable
from serving.domain.settings import shared_settings
from serving.offline import project

CHECK_EVERY_S = 2.0
FILLED = Path(tempfile.gettempdir(), "features-filled")
_BELIEVED_S = 15.0
"""The maximum age of the last successful look for a passing check."""


def main() -> int:
    """Look every CHECK_EVERY_S seconds; retry an unavailable store."""
    if "--check" in sys.argv[1:]:
        return int(not _seen_filled())
    from serving.offline import materialize  # imported late: the training libraries are too slow for a health check

    url = shared_settings().store_url()
    store = WRITERS[url.partition(":")[0]](url)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    first = True
    while not stop.is_set():
        try:
            # Always the first time: stored rows may be older than the data, or of another declaration.
            if first or not store.watermark():
                materialize.main([])
                first = False
            FILLED.touch()
        except FeatureStoreUnavailable as error:
            FILLED.unlink(missing_ok=True)
            print(f"waiting: {error}", file=sys.stderr, flush=True)
        stop.wait(CHECK_EVERY_S)
    return 0


def _seen_filled() -> bool:
    try:
        return time.time() - FILLED.stat().st_mtime < _BELIEVED_S
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    project.run(main)
