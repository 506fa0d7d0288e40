"""Replace the replicas of one deployment by those of the next; whatever fails, the old ones serve on.

The history says which replicas are the service. Every other replica was left by a command that did not end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from serving.domain.errors import OperatorError
from tools import engine, gateway, replicas
from tools.deployments import Deployments, Kind, Target
from tools.replicas import Replica

HEALTH_TIMEOUT_S = 180
FOUND_TIMEOUT_S = 10.0
DEPLOYMENT = "DEPLOYMENT"
"""The variable of Compose that labels new replicas."""


class Rollout:
    """One change of the running replicas; `start` runs `docker compose up` with options and variables."""

    def __init__(self, history: Deployments, fetch: Callable[[str], None], start: Callable[..., None]) -> None:
        self._history = history
        self._fetch = fetch
        self._start = start

    def converge(self, reference: str, count: int, *, overlap_s: float, returns: bool = False) -> Target:
        """Replace all replicas by `count` of this version; if they serve already, stop only those that are left over.

        :raises OperatorError: a new replica is not healthy; the new ones are removed
        """
        target = self._history.begin(reference, count)
        current = self._history.current()
        if current is None or current.deployment != target.deployment:
            old = self.remove_strays()
            try:
                self._surge(target, old, overlap_s)
            except OperatorError as error:
                self._undo(target, old)
                raise _refusal(target, old, error) from None
            except BaseException:
                self._undo(target, old)
                raise
            self._history.record(Kind.RETURNED if returns else Kind.SERVING, target)
        return target

    def finish(self, target: Target) -> None:
        """Let all other replicas finish their calls and stop them."""
        others = [replica.container for replica in replicas.every() if replica.deployment != target.deployment]
        replicas.remove(others)
        self._history.record(Kind.DONE, target)

    def remove_strays(self) -> list[Replica]:
        """Remove the replicas that interrupted commands left; return those that serve."""
        found = replicas.every()
        current = self._history.current()
        serving = [replica for replica in found if current and replica.deployment == current.deployment]
        if not any(replica.healthy for replica in serving):
            healthy = [replica for replica in found if replica.healthy]
            serving = healthy or [replica for replica in found if not replica.failed]
        replicas.remove([replica.container for replica in found if replica not in serving])
        return serving

    def _surge(self, target: Target, old: Sequence[Replica], overlap_s: float) -> None:
        """Start the replicas of a target beside the old ones, and wait until they are healthy."""
        self._fetch(" ".join(sorted({replica.version for replica in old})))
        print(f"starting {target.replicas} replica(s) of {target.reference} beside the old ones ...", flush=True)
        kept = {replica.container for replica in old}
        scaled = f"{engine.SERVER}={len(kept) + target.replicas}"
        self._start("--no-recreate", "--scale", scaled, **{DEPLOYMENT: target.deployment})
        new = sorted({replica.container for replica in replicas.every()} - kept)
        replicas.await_health(new, HEALTH_TIMEOUT_S)
        gateway.await_replicas(len(new) + sum(replica.healthy for replica in old), "servers", FOUND_TIMEOUT_S)
        if overlap_s:
            print(f"both serve for {overlap_s} s, so that every client resolves the name again ...", flush=True)
            time.sleep(overlap_s)

    def _undo(self, target: Target, old: Sequence[Replica]) -> None:
        """Remove what a failed surge has added."""
        kept = {replica.container for replica in old}
        with replicas.uninterrupted():
            while added := sorted({replica.container for replica in replicas.every()} - kept):
                replicas.remove(added)
            self._history.record(Kind.FAILED, target)


def _refusal(target: Target, old: Sequence[Replica], error: OperatorError) -> OperatorError:
    text = f"{target.reference} was not deployed: {str(error).rstrip('.')}."
    if not old:
        return OperatorError(f"{text} No replica serves: `make up` starts the pinned version.")
    serving = " and ".join(sorted({replica.version for replica in old}))
    return OperatorError(
        f"{text} {len(old)} replica(s) of {serving} serve on: `make deploy` tries again, `make rollback` pins the "
        "version that serves."
    )
