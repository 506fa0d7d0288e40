"""Play the autoscaler of the manifests with real replicas under a rising and falling load; print what happened.

`python -m tests.containers.autoscaling`, about 10 minutes. The rule is that of the rendered HorizontalPodAutoscaler,
worked out as Kubernetes does: ceil(replicas * metric / target), its tolerance, windows and policies. The pods are
containers with a small share of a core, so that several fit on this machine; a Docker network plays the headless name.
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.containers.fleet import SHARE, Fleet, new_fleet

SYNC_S = 15.0
TOLERANCE = 0.1
CURVE = ((30, 0.4, 0.4), (60, 0.4, 2.4), (60, 2.4, 2.4), (30, 2.4, 0.4), (345, 0.4, 0.4))
"""Seconds, and the load at their begin and end, in capacities of one replica."""


@dataclass
class Rule:
    """The rule of a HorizontalPodAutoscaler for CPU and `serving_queued`; it remembers what its windows need."""

    spec: Mapping[str, Any]
    advised: list[tuple[float, int]] = field(default_factory=list)
    changed: list[tuple[float, int]] = field(default_factory=list)

    @classmethod
    def of(cls, manifests: str) -> Rule:
        """Return the rule of the rendered manifests."""
        objects = yaml.safe_load_all(manifests)
        (found,) = [item["spec"] for item in objects if item["kind"] == "HorizontalPodAutoscaler"]
        return cls(found)

    def wanted(self, now: float, replicas: int, cpu: float, queued: float) -> int:
        """Return the replicas for an average use of the requested CPU (1.0 is all of it), and calls that wait."""
        ratios = (cpu * 100 / self._target("Resource"), queued / self._target("Pods"))
        advice = max(replicas if abs(ratio - 1) <= TOLERANCE else math.ceil(replicas * ratio) for ratio in ratios)
        self.advised.append((now, min(max(advice, self.spec["minReplicas"]), self.spec["maxReplicas"])))
        up, down = (self.spec["behavior"][name] for name in ("scaleUp", "scaleDown"))
        least = min(self._advised(now, up["stabilizationWindowSeconds"]))
        most = max(self._advised(now, down["stabilizationWindowSeconds"]))
        if replicas < least:
            wanted = min(least, math.ceil(self._before(now, replicas, up) * (1 + self._percent(up))))
        elif replicas > most:
            wanted = max(most, int(self._before(now, replicas, down) * (1 - self._percent(down))))
        else:
            wanted = replicas
        if wanted != replicas:
            self.changed.append((now, wanted - replicas))
        return wanted

    def _target(self, kind: str) -> float:
        (metric,) = [metric for metric in self.spec["metrics"] if metric["type"] == kind]
        target = metric[kind.lower()]["target"]
        return float(target["averageUtilization" if target["type"] == "Utilization" else "averageValue"])

    def _advised(self, now: float, window: float) -> list[int]:
        return [advice for when, advice in self.advised if when >= now - window]

    def _percent(self, behavior: Mapping[str, Any]) -> float:
        (policy,) = behavior["policies"]
        assert policy["type"] == "Percent"
        return float(policy["value"]) / 100

    def _before(self, now: float, replicas: int, behavior: Mapping[str, Any]) -> int:
        """Return the replicas at the beginning of the policy's period."""
        (policy,) = behavior["policies"]
        up = behavior is self.spec["behavior"]["scaleUp"]
        return replicas - sum(
            by for when, by in self.changed if when > now - policy["periodSeconds"] and (by > 0) == up
        )


def main() -> None:
    """Play the curve and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--least", type=int, default=1, help="the least number of replicas, and the first")
    parser.add_argument("--most", type=int, default=4, help="the largest number of replicas")
    options = parser.parse_args()
    with new_fleet() as (_, fleet, manifests):
        rule = Rule.of(manifests)
        rule.spec = {**rule.spec, "minReplicas": options.least, "maxReplicas": options.most}
        play(fleet, rule, options.least)


def play(fleet: Fleet, rule: Rule, least: int) -> None:
    """Measure one replica, then follow the curve."""
    fleet.resize(least)
    capacity = measured_capacity(fleet)
    print(f"a replica with {SHARE} of a core answers at most {capacity:.0f} calls a second")
    curve = [(seconds, begin * capacity, end * capacity) for seconds, begin, end in CURVE]
    began, changes = time.monotonic(), []
    with fleet.load(curve) as lines:
        fleet.measure()
        print("seconds  replicas  CPU  queued a pod  wanted")
        for tick in range(1, int(sum(seconds for seconds, *_ in curve) / SYNC_S) + 1):
            time.sleep(max(0.0, began + tick * SYNC_S - time.monotonic()))
            now, size, (cpu, queued) = time.monotonic() - began, fleet.size, fleet.measure()
            wanted = rule.wanted(now, size, cpu, queued)
            print(f"{now:>7.0f} {size:>9} {cpu:>4.0%} {queued:>13.1f} {wanted:>7}", flush=True)
            if wanted != size:
                changes.append(wanted - size)
                fleet.resize(wanted)
    fleet.join()
    print("".join(lines[1:]), end="")
    turns = sum((first > 0) != (second > 0) for first, second in itertools.pairwise(changes))
    print(f"{len(changes)} changes of the number of replicas, {turns} of them turned back on the one before")


def measured_capacity(fleet: Fleet) -> float:
    """Return the calls per second that use all of a replica's share, by the CPU of calls at a moderate rate."""
    with fleet.load([(30, 60, 60)]) as lines:
        fleet.measure()
        began = time.monotonic()
        time.sleep(25)
        used, _ = fleet.measure()
        assert time.monotonic() - began < 30
    (rate,) = re.findall(r"(\S+) calls a second", "".join(lines))
    return float(rate) / fleet.size / used


if __name__ == "__main__":
    main()
