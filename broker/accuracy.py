"""How wrong expected run times were: of the runs that ended of late, what each took as a part of what was expected of it."""

from __future__ import annotations

from collections import deque

from broker.jobs.model import Phase
from broker.placement.starts import Accuracy, accuracy_of
from broker.world import Job, World

KEPT = 1_000
"""Runs of which it is known."""
PHASES = (Phase.COLLECTING, Phase.SUCCEEDED)


class RunTimes:
    """Follows the world: looks at each run once, when it has ended well."""

    def __init__(self, world: World) -> None:
        self._parts: deque[float] = deque(maxlen=KEPT)
        world.job_watchers.append(self._look)

    @property
    def accuracy(self) -> Accuracy:
        """As of now."""
        return accuracy_of(self._parts)

    def _look(self, old: Job | None, new: Job | None) -> None:
        if new is None or new.state.phase not in PHASES or (old is not None and old.state.phase in PHASES):
            return
        attempt = new.state.attempt
        expected_s = attempt.decision.cost.run_hours * 3600
        if attempt.end is not None and attempt.started_at is not None and expected_s > 0:
            self._parts.append(max(attempt.end.at - attempt.started_at, 0.0) / expected_s)
