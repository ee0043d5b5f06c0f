"""Whose job is next. Any class with what `Order` has can stand in for another."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from itertools import groupby
from typing import Protocol

from broker.placement.view import PlanInput, QueuedClass


class Rank(IntEnum):
    """What a turn is of: the lower the number, the earlier, and it may make later ones give way."""

    FIRM = 0
    """May not be preempted."""
    OWN = 1
    """May be, and is within its tenant's own quota."""
    SPARE = 2
    """May be, and goes beyond that quota, or has none: it fills what is idle."""


class Order(Protocol):
    """Deals out turns. After each `turn`, exactly one of `took`, `drop` and `set_aside` is called. The ranks of turns never fall
    again."""

    @property
    def rank(self) -> Rank:
        """Of the last turn."""

    def turn(self) -> tuple[QueuedClass, int] | None:
        """The class whose job is next, and how many of its jobs come in a row before any other's; None at the end."""

    def took(self, count: int) -> None:
        """That many of the turn's jobs were placed."""

    def drop(self) -> None:
        """No more of this class in this plan."""

    def set_aside(self) -> None:
        """No more of it at this rank: its turn comes again at a later one. Not at the last."""


MakeOrder = Callable[[PlanInput], Order]


AGE_STEP_S = 5.0
AGE_STEPS = 32
"""Ages are compared in steps: within one, jobs go class by class, so that equal ones are placed together. A step is so many
seconds, or this part of the time between the oldest job and the newest where that is longer."""
LEAST_AGE_STEPS, MOST_TURNS = 8, 4096
"""Of many classes there are fewer steps, yet never fewer than that, so that no plan takes more than about so many turns."""
NEAR_S = 600.0
"""A deadline is near once a job must start within so many seconds, or within its run time where that is longer."""

Key = tuple[int, int, float]
"""Smaller is sooner: by priority, then whether its deadline is near, then by that deadline or by age."""


class ByPriorityAndAge:
    """Higher priority first; then those whose deadline is near, the earliest first; then the older job. Classes are merged
    lazily, so that a turn costs the number of classes only by its logarithm."""

    def __init__(self, classes: Sequence[QueuedClass], now: float, rank: Rank = Rank.FIRM, done: Sequence[int] = ()) -> None:
        """`done` says how many of each class's jobs had their turn already; none where it is not given."""
        self._now, self.rank = now, rank
        starts = {id(queued): count for queued, count in zip(classes, done, strict=False)}
        self._classes = _ranked(c for c in classes if c.created)
        oldest = min((c.created[0] for c in self._classes), default=0.0)
        newest = max((c.created[-1] for c in self._classes), default=0.0)
        steps = min(max(MOST_TURNS // max(len(self._classes), 1), LEAST_AGE_STEPS), AGE_STEPS)
        self._step_s = max(AGE_STEP_S, (newest - oldest) / steps)
        numbered = [(index, starts.get(id(queued), 0)) for index, queued in enumerate(self._classes)]
        self._heap = [(self._key(self._classes[index], start), index, start) for index, start in numbered]
        heapq.heapify(self._heap)

    def turn(self) -> tuple[QueuedClass, int] | None:
        """As `Order.turn`."""
        if not self._heap:
            return None
        (priority, is_later, _), index, position = self._heap[0]
        queued = self._classes[index]
        created, last = queued.created, len(queued.created)
        if not is_later:
            last = bisect_right(created, self._now + _near_s(queued) - _start_by_s(queued), position)
        rival = min(self._heap[1:3], default=None)
        if rival is None or rival[0][:2] != (priority, is_later):
            return queued, max(last - position, 1)
        if is_later:
            before = (rival[0][2] + 1 if index < rival[1] else rival[0][2]) * self._step_s
        else:
            before = rival[0][2] - (queued.shape.deadline_s or 0.0)
        return queued, max(bisect_left(created, before, position, last) - position, 1)

    def took(self, count: int) -> None:
        """As `Order.took`."""
        _, index, position = self._heap[0]
        queued = self._classes[index]
        position += count
        if position < len(queued.created):
            heapq.heapreplace(self._heap, (self._key(queued, position), index, position))
        else:
            heapq.heappop(self._heap)

    def drop(self) -> None:
        """As `Order.drop`."""
        self.taken_out()

    def set_aside(self) -> None:
        """As `Order.set_aside`; here there is one rank only."""
        self.taken_out()

    def taken_out(self) -> tuple[QueuedClass, int]:
        """The class of the turn, which comes no more, and how many of its jobs had theirs."""
        _, index, position = heapq.heappop(self._heap)
        return self._classes[index], position

    def _key(self, queued: QueuedClass, position: int) -> Key:
        shape, created = queued.shape, queued.created[position]
        if shape.deadline_s is not None and created + _start_by_s(queued) <= self._now + _near_s(queued):
            return (-shape.priority, 0, created + shape.deadline_s)
        return (-shape.priority, 1, created // self._step_s)


def _start_by_s(queued: QueuedClass) -> float:
    """How long after its creation a job must start, on a pool of speed 1, to meet its deadline."""
    return (queued.shape.deadline_s or 0.0) - queued.shape.run_time_s


def _near_s(queued: QueuedClass) -> float:
    return max(NEAR_S, queued.shape.run_time_s)


def _ranked(classes: Iterable[QueuedClass]) -> list[QueuedClass]:
    """By priority, then age; equal ones by the shape in words, so that the order of the input never matters. Words are costly to
    make, and few are equal."""
    groups = (list(group) for _, group in groupby(sorted(classes, key=_rank), _rank))
    return [each for group in groups for each in (sorted(group, key=_in_words) if len(group) > 1 else group)]


def _rank(queued: QueuedClass) -> tuple[int, float]:
    return (-queued.shape.priority, queued.created[0])


def _in_words(queued: QueuedClass) -> str:
    return repr(queued.shape)
