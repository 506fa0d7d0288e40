"""Where chunks are scored: in this process, or by Ray in several, on one machine or on many."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from serving.domain.errors import OperatorError
from serving.offline.score import chunks, ray_address
from serving.offline.score.chunks import Place
from serving.offline.score.job import Engine, Job
from serving.offline.score.scorer import Scored, Scorer

LOCAL, RAY = "local", "ray"
NAMES = (LOCAL, RAY)


def choose(name: str) -> Engine:
    """Return an engine.

    :raises OperatorError: Ray is not installed here, or its cluster can't be reached
    """
    if name == LOCAL:
        return local
    ray_address.prepare()
    try:
        from serving.offline.score.on_ray import on_ray
    except ModuleNotFoundError as error:
        raise OperatorError(
            f"{error.name} is not installed in this environment; `ENGINE=ray make score` makes one with Ray."
        ) from None
    return on_ray


async def local(job: Job, scorer: Scorer, start: Place) -> AsyncGenerator[Scored, None]:
    """Score in this process."""
    for chunk in chunks.read(job.files, job.columns, job.rows, start):
        yield await scorer.score(chunk)
