"""When a job that waits should start: a range, by how wrong expected run times were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.placement.words import span

LEAST_RUNS = 20
"""Fewer say nothing."""
LOW, HIGH = 0.1, 0.9


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What runs that ended took, as parts of what was expected of them: eight in ten between `low` and `high`, of `runs` in
    all."""

    runs: int = 0
    low: float = 0.5
    high: float = 2.0

    @property
    def text(self) -> str:
        """For people."""
        if not self.runs:
            return "runs are taken to last half to twice as long as expected: too few have ended"
        return f"of {self.runs} runs that ended, 8 in 10 took {self.low:.2g} to {self.high:.2g} times what was expected"


UNKNOWN = Accuracy()


@dataclass(frozen=True, slots=True)
class Start:
    """In so many hours at the earliest and the latest, if what runs there ends as such runs do."""

    earliest_hours: float
    latest_hours: float
    accuracy: Accuracy

    @property
    def text(self) -> str:
        """For people."""
        return f"expected to start in {span(self.earliest_hours)} to {span(self.latest_hours)} ({self.accuracy.text})"


def accuracy_of(parts: Sequence[float]) -> Accuracy:
    """From the parts of what was expected that runs took; what is taken for granted where they are too few."""
    if len(parts) < LEAST_RUNS:
        return UNKNOWN
    ordered = sorted(parts)
    low, high = (ordered[min(int(part * len(ordered)), len(ordered) - 1)] for part in (LOW, HIGH))
    return Accuracy(len(ordered), low, high)


def start(wait_hours: float, accuracy: Accuracy) -> Start:
    """Around the wait that is reckoned with. What is waited for are runs that end: their errors are taken to be alike, so that
    the wait is as wrong as they are."""
    return Start(wait_hours * min(accuracy.low, 1.0), wait_hours * max(accuracy.high, 1.0), accuracy)
