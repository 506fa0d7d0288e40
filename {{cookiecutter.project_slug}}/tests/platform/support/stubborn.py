"""The real server with a model that can't be ended, in place of onnxruntime; a module to run.

It replaces a library that can't be interrupted: it answers at once, but never on FOR_EVER. Batches of up to
STUBBORN_ROWS rows run on the event loop.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import MutableMapping
from typing import cast

from serving import __main__ as server
from serving.adapters.runtime import LOADERS
from serving.adapters.runtime.dispatcher import Dispatcher, Stop
from serving.domain.artifacts import Artifact
from serving.domain.tensors import Tensors

log = logging.getLogger(__name__)

FOR_EVER = 10**12


class Stubborn:
    concurrency = 1

    def __init__(self, artifact: Artifact, *, threads: int) -> None:
        self._worker = Dispatcher(self._run, Unheard)
        self._worker.loop_rows = int(os.environ["STUBBORN_ROWS"])

    async def warm_up(self, inputs: Tensors, max_rows: int) -> None:
        pass

    async def predict(self, inputs: Tensors, *, timeout: float) -> Tensors:
        return await self._worker.run(inputs, timeout=timeout)

    async def close(self) -> None:
        self._worker.close()

    def _run(self, inputs: Tensors, stop: Stop) -> Tensors:
        if FOR_EVER in inputs["steps"]:
            log.warning("sleeping")
            while True:
                time.sleep(1)
        return {"done": inputs["steps"]}


class Unheard:
    terminate = False


if __name__ == "__main__":
    cast("MutableMapping[str, object]", LOADERS)["onnx"] = Stubborn
    code = server.main()
    os._exit(code)
