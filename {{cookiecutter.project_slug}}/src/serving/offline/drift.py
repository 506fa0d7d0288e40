"""Compare what a service has seen and answered with its training data: `make drift`.

Reads the metrics pages of the replicas, so it covers all rows since they started. With `--prometheus` it asks a
Prometheus that has the rules in `monitoring/`, which look at the last minutes or hours.
"""

from __future__ import annotations

import argparse
import json
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from serving.domain.distributions import drift
from serving.domain.errors import OperatorError, quoted
from serving.offline import project

LEAST_ROWS = 500
CLEAR = 0.25
_PAGE = "http://localhost:8002/metrics"
_RULE = "serving:drift:psi"
_TIMEOUT_S = 10.0
_MAX_BYTES = 16 << 20
_HEADER = f"{'version':<10} {'kind':<7} {'name':<32} {'rows':>9} {'drift':>7}"

Column = tuple[str, str, str]
"""Version, kind and name of an input or output."""


@dataclass
class _Bins:
    trained: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=lambda: defaultdict(float))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each input and output."""
    parser = argparse.ArgumentParser(prog="python -m serving.offline.drift", description=__doc__)
    parser.add_argument("pages", nargs="*", default=[_PAGE], help=f"metrics pages of all replicas (default: {_PAGE})")
    parser.add_argument("--prometheus", metavar="URL", help="ask a Prometheus instead, such as http://localhost:9090")
    options = parser.parse_args(arguments)
    if options.prometheus:
        lines = [_line(column, "", value) for column, value in _asked(options.prometheus.rstrip("/"))]
    else:
        lines = list(_computed(options.pages))
    if not lines:
        raise OperatorError(
            "no input or output can be compared: the version was trained on fewer than 40 rows or by an older release, "
            f"or Prometheus has seen fewer than {LEAST_ROWS} rows; see docs/monitoring.md."
        )
    print(_HEADER, *lines, sep="\n")
    return 0


def _computed(pages: Sequence[str]) -> Iterator[str]:
    columns: dict[Column, _Bins] = defaultdict(_Bins)
    for page in pages:
        _add(columns, _read(page))
    for column, bins in sorted(columns.items()):
        names = list(bins.trained)
        counts = [bins.counts[name] for name in names]
        rows = sum(counts)
        known = drift([bins.trained[name] for name in names], counts) if rows >= LEAST_ROWS else None
        yield _line(column, f"{rows:.0f}", known)


def _add(columns: dict[Column, _Bins], page: str) -> None:
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name in ("serving_values_total", "serving_values_trained_share"):
                labels = sample.labels
                bins = columns[labels["version"], labels["kind"], labels["name"]]
                if sample.name == "serving_values_total":
                    bins.counts[labels["bin"]] += sample.value
                else:
                    bins.trained[labels["bin"]] = sample.value


def _asked(prometheus: str) -> list[tuple[Column, float]]:
    query = urllib.parse.urlencode({"query": _RULE})
    answer = _read(f"{prometheus}/api/v1/query?{query}")
    try:
        samples = [(sample["metric"], float(sample["value"][1])) for sample in json.loads(answer)["data"]["result"]]
        return sorted(((found["version"], found["kind"], found["name"]), value) for found, value in samples)
    except (ValueError, LookupError, TypeError):
        raise OperatorError(f"{prometheus}: the answer is not that of a Prometheus; correct the URL.") from None


def _line(column: Column, rows: str, value: float | None) -> str:
    version, kind, name = column
    if value is None:
        return f"{version:<10} {kind:<7} {name:<32} {rows:>9}       -  fewer than {LEAST_ROWS} rows"
    said = f"  more than {CLEAR}: see docs/monitoring.md" if value > CLEAR else ""
    return f"{version:<10} {kind:<7} {name:<32} {rows:>9} {value:>7.3f}{said}"


def _read(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise OperatorError(f"{quoted(url)} is no URL; it must begin with http:// or https://.")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310 - the scheme was checked
            return str(response.read(_MAX_BYTES).decode())
    except (OSError, ValueError) as error:
        raise OperatorError(f"{url}: can't be read ({quoted(error)}); is the service running?") from None


if __name__ == "__main__":
    project.run(main)
