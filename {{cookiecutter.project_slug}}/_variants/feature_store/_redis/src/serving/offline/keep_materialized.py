"""Fill the feature store at the start, and again whenever it comes back empty; runs until SIGTERM.

With `--check`, only say by the exit code whether it was filled when last looked at: the container's health check. It
reads that from a file, since libraries that open a store can take longer to import than a check may last.
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
"""How long ago the store was seen filled, at most, where a check is to succeed."""


def main() -> int:
    """Look every CHECK_EVERY_S seconds; a store that is away is looked for again."""
    if "--check" in sys.argv[1:]:
        return int(not _seen_filled())
    from serving.offline import materialize  # brings the training libraries, which a health check has no time for

    url = shared_settings().feature_store
    store = WRITERS[url.partition(":")[0]](url)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    first = True
    while not stop.is_set():
        try:
            # The first time in any case: what is there may be older than the data, or made for another declaration.
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
