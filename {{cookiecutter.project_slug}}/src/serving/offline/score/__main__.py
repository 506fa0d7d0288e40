"""Score files with the pinned model, through the checks, features and fallbacks of the server: `make score`.

The input are CSV or Parquet files, folders or patterns. Each row has the columns of a call: the key of the entity and
the real-time features. Static features come from the feature store; with --date, model/data.py says what was known
then; columns of the input that hold all of them are used instead. The output has the keys, or file and row, the
answers, the model's version and digest, and the features that used a fallback. Rows that are refused go to
OUTPUT.rejected.csv. The output appears whole; a run that was killed goes on when the same command is given again.

Exit code: 0 if every row was scored, 3 if some were refused, 1 if there is no output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from serving.offline import project
from serving.offline.score.engines import LOCAL, NAMES
from serving.offline.score.run import Options, run

REFUSED_SOME = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print the summary as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.offline.score",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", nargs="+", help="files, folders or patterns such as 'data/*.parquet'")
    parser.add_argument("--output", type=Path, required=True, help="the file to write: .parquet or .csv")
    parser.add_argument("--date", default="", metavar="COLUMN", help="use the static features known at this date")
    parser.add_argument(
        "--keys", nargs="+", default=(), metavar="COLUMN", help="columns to copy to the output (default: entity, date)"
    )
    parser.add_argument("--max-rejected", type=_count, metavar="N", help="stop after more than N refused rows")
    parser.add_argument("--replace", action="store_true", help="overwrite the output")
    parser.add_argument("--restart", action="store_true", help="drop the parts of a run that did not end")
    parser.add_argument("--rows", type=_count, default=0, metavar="N", help="the most rows of one call of the model")
    parser.add_argument("--threads", type=_positive, default=1, metavar="N", help="threads of one call of the model")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="S", help="seconds for one call of the model")
    parser.add_argument("--engine", choices=NAMES, default=LOCAL, help="where: in this process, or in those of Ray")
    given = parser.parse_args(arguments)
    options = Options(
        given.input,
        given.output,
        given.date,
        given.keys,
        given.max_rejected,
        given.replace,
        given.restart,
        given.rows,
        threads=given.threads,
        timeout=given.timeout,
        engine=given.engine,
    )
    summary = asyncio.run(run(options))
    print(json.dumps(summary.as_json(options.output), indent=1))
    return REFUSED_SOME if summary.counts.rejected else 0


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


if __name__ == "__main__":
    project.run(main)
