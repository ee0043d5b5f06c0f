"""When a job that waits should start: a range, by how wrong expected run times were.

The pool it waits for gives room back as what runs there ends. Reckoned twice more, with every run as short as one in ten was of
late and as long as one in ten was, that gives the earliest and the latest start; what waits before the job takes as much less or
more time. A single number would mislead: run times are guesses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from broker.jobs.model import Shape
from broker.placement.board import Board
from broker.placement.memory import Memory
from broker.placement.view import PlanInput, SiteView, Wait
from broker.placement.words import spans

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
    def fast(self) -> float:
        """The pace of runs that are short; what is expected is always within."""
        return min(self.low, 1.0)

    @property
    def slow(self) -> float:
        """The pace of those that are long."""
        return max(self.high, 1.0)

    @property
    def text(self) -> str:
        """For people."""
        if not self.runs:
            return "runs are taken to last half to twice as long as expected: too few have ended"
        return f"of {self.runs} runs that ended, 8 in 10 took {self.low:.2g} to {self.high:.2g} times what was expected"


UNKNOWN = Accuracy()


@dataclass(frozen=True, slots=True)
class Start:
    """In so many hours at the earliest, as things are reckoned, and at the latest."""

    earliest_hours: float
    expected_hours: float
    latest_hours: float
    accuracy: Accuracy

    @property
    def text(self) -> str:
        """For people."""
        return f"expected to start in {spans(self.earliest_hours, self.latest_hours)} ({self.accuracy.text})"


def accuracy_of(parts: Sequence[float]) -> Accuracy:
    """From the parts of what was expected that runs took; what is taken for granted where they are too few."""
    if len(parts) < LEAST_RUNS:
        return UNKNOWN
    ordered = sorted(parts)
    low, high = (ordered[min(int(part * len(ordered)), len(ordered) - 1)] for part in (LOW, HIGH))
    return Accuracy(len(ordered), low, high)


def start(wait: Wait, before: int, releases: tuple[float | None, float | None], accuracy: Accuracy, *, is_last: bool) -> Start:
    """Of a job with `before` others of its class in front of it. `releases` say in how many hours the pool has given enough
    back, with all runs there short and with all long (see `release_hours`); where there is no saying, the guess that was made is
    scaled as they are. A job that is not queued yet may come before all that waits for the pool, or, as `is_last` says the
    wait reckons with, behind it."""
    expected = wait.hours + before * wait.each_hours
    ahead = wait.behind_hours + before * wait.each_hours
    release = wait.hours - wait.behind_hours
    soon, late = (given if given is not None else release * pace for given, pace in zip(releases, _paces(accuracy), strict=True))
    earliest = min(soon, release) + (0.0 if is_last else ahead * accuracy.fast)
    return Start(earliest, expected, max(late, release) + ahead * accuracy.slow, accuracy)


def release_hours(shape: Shape, pool: str, given: PlanInput, view: SiteView) -> float | None:
    """In how many hours what runs at a site has given a pool enough back for a job of this shape, if nothing else waited for it;
    None where that never suffices."""
    board = Board(replace(given, sites=(view,), classes=()), Memory())
    options = board.choices(shape, 0.0).options
    here = [option for option, place in enumerate(options.places) if board.pools.pools[place].name == pool]
    hours = board.pools.release_hours(options.rows[here], options.places[here])
    least = float(np.min(hours, initial=math.inf))
    return least if math.isfinite(least) else None


def _paces(accuracy: Accuracy) -> tuple[float, float]:
    return accuracy.fast, accuracy.slow
