"""Compare what a service has seen and answered with its training data: `make drift`.

Reads the metrics pages of the replicas, so it covers all rows since they started. With `--prometheus` it asks a
Prometheus that has the rules in `monitoring/`, which look at the last minutes or hours. With `--html` it also draws a
page, which needs no network to be read.
"""

from __future__ import annotations

import argparse
import json
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from serving.domain.distributions import drift
from serving.domain.errors import OperatorError, quoted
from serving.offline import drift_page, project

LEAST_ROWS = 500
CLEAR = 0.25
_PAGE = "http://localhost:8002/metrics"
_RULE = "serving:drift:psi"
_TIMEOUT_S = 10.0
_MAX_BYTES = 16 << 20
_HEADER = f"{'version':<10} {'kind':<7} {'name':<32} {'rows':>9} {'drift':>7}"

Column = tuple[str, str, str]
"""Version, kind and name of an input or output."""


@dataclass(frozen=True)
class Drift:
    """Hold how far an input or output has moved, and the share of the rows in each bin, in training and now.

    `drift` is None if there were too few rows. A Prometheus gives neither rows nor bins.
    """

    version: str
    kind: str
    name: str
    drift: float | None
    rows: int | None = None
    bins: Sequence[str] = ()
    trained: Sequence[float] = ()
    now: Sequence[float] = ()


@dataclass
class _Bins:
    trained: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=lambda: defaultdict(float))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each input and output."""
    parser = argparse.ArgumentParser(prog="python -m serving.offline.drift", description=__doc__)
    parser.add_argument("pages", nargs="*", default=[_PAGE], help=f"metrics pages of all replicas (default: {_PAGE})")
    parser.add_argument("--prometheus", metavar="URL", help="ask a Prometheus instead, such as http://localhost:9090")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    options = parser.parse_args(arguments)
    found = _asked(options.prometheus.rstrip("/")) if options.prometheus else _computed(options.pages)
    if not found:
        raise OperatorError(
            "no input or output can be compared: the version was trained on fewer than 40 rows or by an older release, "
            f"or Prometheus has seen fewer than {LEAST_ROWS} rows; see docs/monitoring.md."
        )
    print(_HEADER, *map(_line, found), sep="\n")
    if options.html is not None:
        drift_page.draw([asdict(each) for each in found], CLEAR, options.html)
        print(f"wrote {options.html}")
    return 0


def _computed(pages: Sequence[str]) -> list[Drift]:
    columns: dict[Column, _Bins] = defaultdict(_Bins)
    for page in pages:
        _add(columns, _read(page))
    found = []
    for column, bins in sorted(columns.items()):
        names = list(bins.trained)
        trained, counts = [bins.trained[name] for name in names], [bins.counts[name] for name in names]
        rows = sum(counts)
        known = drift(trained, counts) if rows >= LEAST_ROWS else None
        now = [count / rows for count in counts] if rows else []
        found.append(Drift(*column, known, int(rows), names, trained, now))
    return found


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


def _asked(prometheus: str) -> list[Drift]:
    query = urllib.parse.urlencode({"query": _RULE})
    answer = _read(f"{prometheus}/api/v1/query?{query}")
    try:
        samples = [(sample["metric"], float(sample["value"][1])) for sample in json.loads(answer)["data"]["result"]]
        found = [Drift(labels["version"], labels["kind"], labels["name"], value) for labels, value in samples]
    except (ValueError, LookupError, TypeError):
        raise OperatorError(f"{prometheus}: the answer is not that of a Prometheus; correct the URL.") from None
    return sorted(found, key=lambda each: (each.version, each.kind, each.name))


def _line(found: Drift) -> str:
    rows = "" if found.rows is None else str(found.rows)
    start = f"{found.version:<10} {found.kind:<7} {found.name:<32} {rows:>9}"
    if found.drift is None:
        return f"{start}       -  fewer than {LEAST_ROWS} rows"
    said = f"  more than {CLEAR}: see docs/monitoring.md" if found.drift > CLEAR else ""
    return f"{start} {found.drift:>7.3f}{said}"


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
