"""A materialization that is killed when half of its rows are written: this module, run in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from model.data import history
from scripts.materialize import materialize, open_writer
from serving.domain import Tensors
from serving.features import Feature
from serving.ports import FeatureWriter
from tests.support.workspace import THIS_REPO, environment

PATIENCE_S = 60.0
_HALF = "half\n"


def materialize_and_be_killed(url: str, number: signal.Signals) -> None:
    """Materialize everything into a store, and end the process by a signal when it has come half way."""
    with subprocess.Popen(
        [sys.executable, "-m", __name__, url],
        cwd=THIS_REPO,
        env=environment(THIS_REPO),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == _HALF
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == -number


class _Halting(list[bytes]):
    """Give half of the rows, say so, and wait for ever."""

    def __iter__(self) -> Iterator[bytes]:
        yield from self[: len(self) // 2]
        sys.stdout.write(_HALF)
        sys.stdout.flush()
        sys.stdin.read()


class _HaltingWriter:
    def __init__(self, writer: FeatureWriter) -> None:
        self._writer = writer

    def write(
        self,
        features: Sequence[Feature],
        entities: Sequence[bytes],
        columns: Tensors,
        times: npt.NDArray[np.int64] | None = None,
        watermark: str = "",
    ) -> int:
        return self._writer.write(features, _Halting(entities), columns, times, watermark)

    def watermark(self) -> str:
        return self._writer.watermark()


if __name__ == "__main__":
    materialize(history(), _HaltingWriter(open_writer(sys.argv[1])), until=2**62, everything=True)
