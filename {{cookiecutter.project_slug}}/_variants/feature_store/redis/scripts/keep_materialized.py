"""Fill the feature store at the start, and again whenever it comes back empty; runs until SIGTERM.

With `--check`, only say by the exit code whether it is filled: the container's health check.
"""

from __future__ import annotations

import signal
import sys
import threading

from scripts import project
from serving.adapters.redis_store import RedisWriter
from serving.errors import FeatureStoreAway
from serving.settings import load_settings

CHECK_EVERY_S = 2.0


def main() -> int:
    """Look every CHECK_EVERY_S seconds; a store that is away is looked for again."""
    store = RedisWriter.open(load_settings().feature_store)
    if "--check" in sys.argv[1:]:
        return int(not store.watermark())
    from scripts import materialize  # brings the training libraries, which a health check has no time for

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
        except FeatureStoreAway as error:
            print(f"waiting: {error}", file=sys.stderr, flush=True)
        stop.wait(CHECK_EVERY_S)
    return 0


if __name__ == "__main__":
    project.run(main)
