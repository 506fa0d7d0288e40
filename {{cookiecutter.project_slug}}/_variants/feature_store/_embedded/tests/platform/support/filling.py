"""Fill a store from a separate process, so that a test can kill it: `python -m tests.platform.support.filling URL`.

With `--many` it writes more rows. With `--halt` it writes half of them, reports that, and waits forever.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np

from serving.domain.features import Feature
from serving.domain.ports import Column, FeatureRows, FeatureStore, FeatureWriter
from serving.offline.materialize import open_writer
from tests.platform.support.workspace import THIS_REPO, environment

FILLED = Feature("filled")
KEYS = tuple(b"key-%d" % number for number in range(1000))
MANY = tuple(b"key-%d" % number for number in range(3000))
HALF = b"half\n"
ENVIRONMENT = environment(THIS_REPO)


def command(url: str, *options: str) -> list[str]:
    """Return the command that fills a store with the value 2."""
    return [sys.executable, "-m", __name__, url, *options]


def fill(writer: FeatureWriter, value: float, keys: Sequence[bytes] = KEYS) -> None:
    """Write the same value and watermark for all keys."""
    writer.write(FeatureRows([FILLED], keys, {"filled": np.full(len(keys), value, np.float32)}, watermark=str(value)))


async def values(store: FeatureStore, keys: Sequence[bytes] = KEYS) -> set[float]:
    """Return the values of all keys."""
    column: Column = (await store.read(keys, [FILLED], timeout=60.0))["filled"]
    assert column.present.all()
    return set(column.values.tolist())


class _Halting(list[bytes]):
    def __iter__(self) -> Iterator[bytes]:
        yield from self[: len(self) // 2]
        sys.stdout.buffer.write(HALF)
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    keys = MANY if "--many" in sys.argv else KEYS
    fill(open_writer(sys.argv[1]), 2.0, _Halting(keys) if "--halt" in sys.argv else keys)
