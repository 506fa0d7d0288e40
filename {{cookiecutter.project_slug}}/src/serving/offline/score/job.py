"""What a process must know to score a share of the input, and what does it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from serving.offline.score.chunks import Place
from serving.offline.score.files import InputFile
from serving.offline.score.layout import Layout
from serving.offline.score.scorer import Scored, Scorer
from serving.prediction.settings import PredictionSettings


@dataclass(frozen=True)
class Job:
    """Hold the input, the columns to read of each file, and how to score them."""

    files: Sequence[InputFile]
    columns: Sequence[Sequence[str]]
    layout: Layout
    settings: PredictionSettings
    rows: int
    threads: int
    timeout: float


Engine = Callable[[Job, Scorer, Place], AsyncGenerator[Scored, None]]
"""Scores from a place on, and gives the chunks in their order."""
