"""One run: plan, score what is left, publish."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from serving.domain.errors import OperatorError, ServingError, quoted
from serving.domain.settings import read_settings
from serving.domain.tensors import row_bytes
from serving.offline.score import chunks, engines, files, layout, model, result, work
from serving.offline.score.counts import Counts
from serving.offline.score.job import Job
from serving.offline.score.progress import Progress
from serving.offline.score.scorer import Scored, Scorer
from serving.prediction.settings import PredictionSettings

_CHUNK_ROWS, _CHUNK_BYTES = 65_536, 64 << 20
_PART_ROWS, _PART_BYTES = 524_288, 64 << 20


@dataclass(frozen=True)
class Options:
    """Hold what the command line says; `rows` bounds one call of the model, 0 is a choice by size."""

    inputs: Sequence[str]
    output: Path
    date: str = ""
    keys: Sequence[str] = ()
    max_rejected: int | None = None
    replace: bool = False
    restart: bool = False
    rows: int = 0
    part_rows: int = _PART_ROWS
    threads: int = 1
    timeout: float = 300.0
    engine: str = engines.LOCAL


@dataclass(frozen=True)
class Summary:
    """Hold what a run did."""

    counts: Counts
    resumed: int
    seconds: float
    model: str

    def as_json(self, output: Path) -> Mapping[str, Any]:
        """Return the summary as a program reads it."""
        scored = self.counts.rows + self.counts.rejected - self.resumed
        refused = str(output.with_name(f"{output.name}.rejected.csv")) if self.counts.rejected else None
        return {
            "output": str(output),
            "rows": self.counts.rows,
            "rejected": self.counts.rejected,
            "rejected_file": refused,
            "model": self.model,
            "defaulted": dict(self.counts.defaulted),
            "last_known": dict(self.counts.last_known),
            "stale": dict(self.counts.stale),
            "resumed_rows": self.resumed,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(scored / self.seconds) if self.seconds else 0,
        }


async def run(options: Options) -> Summary:
    """Score all rows and write the output.

    :raises ServingError: the run can't begin or go on; the work folder keeps what was done
    """
    try:
        return await _run(options)
    except OSError as error:
        raise OperatorError(
            f"{error.filename or options.output}: can't be written ({error.strerror}); name another output."
        ) from None


async def _run(options: Options) -> Summary:
    began, output = time.monotonic(), options.output
    if output.suffix.lower() not in files.KINDS:
        raise OperatorError(f"{output}: must end in {' or '.join(files.KINDS)}, which says what to write.")
    if output.exists() and not options.replace:
        raise OperatorError(f"{output}: exists; name another output, or overwrite it with --replace.")
    engine = engines.choose(options.engine)
    found = files.find(options.inputs, output)
    settings = read_settings(PredictionSettings)
    async with AsyncExitStack() as resources:
        opened = await model.open_model(settings, options.threads, resources)
        schemas = [chunks.schema_of(file) for file in found]
        supplied = opened.supplied(options.date)
        meaning = layout.choose(
            opened.artifact.manifest, supplied, found[0], schemas[0], date=options.date, keys=options.keys
        )
        for file, schema in zip(found, schemas, strict=True):
            layout.check(meaning, file, schema, [key.name for key in meaning.keys])
        rows = options.rows or _fitting(opened.artifact.manifest.features.model_inputs)
        scorer = model.scorer(opened, meaning, settings, rows=rows, timeout=options.timeout)
        plan = {**_plan(found, opened, meaning, options, rows), **_policy(settings)}
        with work.opened(output, plan, restart=options.restart) as place:
            resumed = sum(part.counts.rows + part.counts.rejected for part in place.parts)
            columns = [meaning.columns(schema) for schema in schemas]
            job = Job(found, columns, meaning, settings, rows, options.threads, options.timeout)
            async with aclosing(engine(job, scorer, place.after)) as results:
                await _score(place, scorer, results, found, options)
            try:
                result.publish(place, scorer, [file.path for file in found], output)
            except OSError as error:
                raise _stopped(error, place) from None
            total = Counts()
            for part in place.parts:
                total.add(part.counts)
            work.remove(place)
    return Summary(total, resumed, time.monotonic() - began, str(opened.reference))


async def _score(
    place: work.Work,
    scorer: Scorer,
    results: AsyncIterator[Scored],
    found: Sequence[files.InputFile],
    options: Options,
) -> None:
    """Write the parts that are not there yet."""
    rejected = sum(part.counts.rejected for part in place.parts)
    done = sum(part.counts.rows + part.counts.rejected for part in place.parts)
    with Progress(found, done) as progress:
        writer = None
        try:
            async for scored in results:
                rejected += len(scored.refusals)
                writer = writer or place.write(scorer.schema)
                writer.add(scored)
                progress.add(scored)
                if options.max_rejected is not None and rejected > options.max_rejected:
                    target = result.publish_refusals(place, options.output, writer.unfinished())
                    raise OperatorError(
                        f"{rejected} rows are refused so far, more than --max-rejected {options.max_rejected}; "
                        f"{target} names them. Correct the input and run with --restart, or allow more."
                    )
                if writer.counts.rows >= options.part_rows or writer.bytes >= _PART_BYTES:
                    writer.commit()
                    writer = None
            if writer is not None:
                writer.commit()
        except OperatorError:
            raise  # it has its own way out
        except (OSError, pa.ArrowException, ServingError) as error:
            raise _stopped(error, place) from None
        finally:
            if writer is not None:
                writer.close()


def _stopped(error: Exception, place: work.Work) -> OperatorError:
    """Say what ended the run, and that the same command goes on."""
    done = sum(part.counts.rows + part.counts.rejected for part in place.parts)
    cause = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
    return OperatorError(
        f"{cause.rstrip('.')}. Nothing was published; the same command goes on after row {done}, from {place.folder}."
    )


def _fitting(features: Sequence[Any]) -> int:
    """Return how many rows one call of the model gets: fewer where rows are large."""
    row = sum(row_bytes(feature.spec) for feature in features)
    return max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // max(row, 1)))


def _plan(
    found: Sequence[files.InputFile], opened: model.Opened, meaning: layout.Layout, options: Options, rows: int
) -> Mapping[str, Any]:
    """Return all that the parts depend on."""
    return {
        "input": [[file.path, file.size, file.modified_ns] for file in found],
        "model": str(opened.reference),
        "source of static features": meaning.source.value,
        "keys or date": [*(key.name for key in meaning.keys), quoted(options.date)],
        "number of rows": [rows, options.part_rows],
        "format": options.output.suffix.lower(),
    }


def _policy(settings: PredictionSettings) -> Mapping[str, str]:
    """Return the settings that the answers depend on."""
    return {
        "SERVING_FEATURE_STORE": settings.store_url(),
        "SERVING_UNKNOWN_ENTITY": settings.unknown_entity,
        "SERVING_STORE_UNAVAILABLE": settings.store_unavailable,
    }
