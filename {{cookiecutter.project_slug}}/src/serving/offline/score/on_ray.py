"""Score on Ray: on the cores of this machine, or on a cluster whose nodes have this folder and the input.

Ray Data gives sections of the input to workers, keeps their order, repeats what was lost with a worker, and holds the
workers back while this process writes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data

from serving.domain.errors import OperatorError, ServingError
from serving.domain.settings import PREFIX
from serving.offline.score import chunks, model
from serving.offline.score.chunks import Place
from serving.offline.score.job import Job
from serving.offline.score.ray_address import reached, refusal
from serving.offline.score.scorer import Scored, Scorer

_JOIN_S, _WORKER_S = 60, 600
_RESTARTS = 3
_RETRIES = 20  # one takes some seconds, and Ray may need a minute to see that a node is gone
_OBJECTS_BYTES, _BLOCK_BYTES = 1 << 30, 16 << 20
_JOIN = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')"


async def on_ray(job: Job, _scorer: Scorer, start: Place) -> AsyncGenerator[Scored, None]:
    """Score in Ray's workers, each of which opens the model.

    :raises OperatorError: there is no such cluster
    :raises ServingError: Ray lost too many workers, or has none
    """
    places = chunks.sections(job.files, job.rows, start)
    with _connected():
        try:
            for result in _results(job, places):
                if isinstance(result, Exception):
                    raise result
                yield result
        except ray.exceptions.RayError as error:
            raise ServingError(f"Ray: {_last_line(str(error))}.") from None


def _results(job: Job, places: list[Place]) -> Iterator[Scored | Exception]:
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.target_max_block_size = _BLOCK_BYTES
    context.wait_for_min_actors_s = _WORKER_S
    waiting = ray.data.from_items([{"place": list(place)} for place in places], override_num_blocks=len(places))
    with warnings.catch_warnings():
        # Ray would restart for ever a worker that dies each time; to bound that is deprecated before Ray can do better.
        warnings.simplefilter("ignore")
        scored = waiting.map_batches(
            _Worker,
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=len(places)),
            fn_constructor_args=(job, str(Path.cwd()), _settings()),
            num_cpus=job.threads,
            max_restarts=_RESTARTS,
            max_task_retries=_RETRIES,
        )
    tables: Iterator[Any] = iter(scored.iter_batches(batch_size=None, batch_format="pyarrow"))
    for table in tables:
        for result in table.column("result"):
            yield pickle.loads(result.as_py())  # noqa: S301 - from our own workers


class _Worker:
    """Score sections in a process of Ray's."""

    def __init__(self, job: Job, folder: str, settings: Mapping[str, str]) -> None:
        os.environ.update(settings)
        os.chdir(folder)  # paths of input, model and settings are relative to it
        self._job = job
        self._resources = AsyncExitStack()
        self._loop = asyncio.Runner()
        self._scorer: Scorer | None = None

    def __call__(self, waiting: pa.Table) -> Iterator[pa.Table]:
        for place in waiting.column("place").to_pylist():
            for result in self._results((place[0], place[1], place[2])):
                yield pa.table({"result": pa.array([pickle.dumps(result)], pa.large_binary())})

    def _results(self, place: Place) -> Iterator[Scored | Exception]:
        """Give a failure as a result: Ray would hide it in a traceback."""
        job = self._job
        try:
            scorer = self._scorer = self._scorer or self._loop.run(self._opened())
            for chunk in chunks.read_section(job.files, job.columns, job.rows, place):
                yield self._loop.run(scorer.score(chunk))
        except (OSError, pa.ArrowException, ServingError) as error:
            yield error

    async def _opened(self) -> Scorer:
        job = self._job
        opened = await model.open_model(job.settings, job.threads, self._resources)
        return model.scorer(opened, job.layout, job.settings, rows=job.rows, timeout=job.timeout)


def _settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}


@contextmanager
def _connected() -> Iterator[None]:
    """Join the cluster that the operator names, or start Ray on this machine."""
    address = reached()
    with ExitStack() as resources:
        options: dict[str, Any]
        if address:
            _try(address)
            options = {"address": address, "runtime_env": {"py_executable": sys.executable}}
        else:
            # Ray keeps the logs of each run; a socket's path in there has room for a short name only.
            parent = "/tmp" if os.name == "posix" else None  # noqa: S108 - a new folder in it
            logs = tempfile.TemporaryDirectory(prefix="ray-", dir=parent, ignore_cleanup_errors=True)
            options = {"address": "local", "include_dashboard": False, "object_store_memory": _OBJECTS_BYTES}
            options["_temp_dir"] = resources.enter_context(logs)
        resources.callback(ray.shutdown)
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
            raise OperatorError(f"Ray does not start ({_last_line(str(error).partition('.')[0])}).") from None
        yield


def _try(address: str) -> None:
    """Join the cluster in another process: Ray tries for minutes if something else answers there.

    :raises OperatorError: this can't be a process of that cluster
    """
    join = [sys.executable, "-c", _JOIN, address]
    try:
        done = subprocess.run(join, capture_output=True, text=True, check=False, timeout=_JOIN_S)
    except subprocess.TimeoutExpired:
        raise refusal(address, f"no answer within {_JOIN_S} s") from None
    if done.returncode:
        raise refusal(address, _last_line(done.stderr))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1].strip().rstrip(".")
