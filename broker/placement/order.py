"""Whose job is next. Any class with these three methods can replace `ByPriorityAndAge`."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Protocol

from broker.placement.view import QueuedClass


class Order(Protocol):
    """Deals out turns. After each `turn`, exactly one of `took` and `drop` is called."""

    def turn(self) -> tuple[QueuedClass, int] | None:
        """The class whose job is next, and how many of its jobs come in a row before any other's; None at the end."""

    def took(self, count: int) -> None:
        """That many of the turn's jobs were placed."""

    def drop(self) -> None:
        """No more of this class in this plan."""


MakeOrder = Callable[[Sequence[QueuedClass]], Order]


AGE_STEP_S = 5.0
AGE_STEPS = 32
"""Ages are compared in steps: within one, jobs go class by class, so that equal ones are placed together. A step is so many
seconds, or this part of the time between the oldest job and the newest where that is longer."""


class ByPriorityAndAge:
    """Higher priority first, then the older job. Classes are merged lazily, so that a turn costs the number of classes only
    by its logarithm."""

    def __init__(self, classes: Sequence[QueuedClass]) -> None:
        self._classes = sorted((c for c in classes if c.created), key=_rank)
        oldest = min((c.created[0] for c in self._classes), default=0.0)
        newest = max((c.created[-1] for c in self._classes), default=0.0)
        self._step_s = max(AGE_STEP_S, (newest - oldest) / AGE_STEPS)
        self._heap = [(-c.shape.priority, c.created[0] // self._step_s, i, 0) for i, c in enumerate(self._classes)]

    def turn(self) -> tuple[QueuedClass, int] | None:
        """As `Order.turn`."""
        if not self._heap:
            return None
        priority, _, index, position = self._heap[0]
        created = self._classes[index].created
        rival = min(self._heap[1:3], default=None)
        if rival is None or rival[0] != priority:
            return self._classes[index], len(created) - position
        before = rival[1] + 1 if index < rival[2] else rival[1]
        return self._classes[index], max(bisect_left(created, before * self._step_s, position) - position, 1)

    def took(self, count: int) -> None:
        """As `Order.took`."""
        priority, _, index, position = self._heap[0]
        created = self._classes[index].created
        position += count
        if position < len(created):
            heapq.heapreplace(self._heap, (priority, created[position] // self._step_s, index, position))
        else:
            heapq.heappop(self._heap)

    def drop(self) -> None:
        """As `Order.drop`."""
        heapq.heappop(self._heap)


def _rank(queued: QueuedClass) -> tuple[int, float, str]:
    """Ends with the shape in words, so that the order of the input never matters."""
    return (-queued.shape.priority, queued.created[0], repr(queued.shape))
