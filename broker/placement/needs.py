"""What jobs need, as rows of a matrix: so many tasks of one size each."""

from __future__ import annotations

from typing import Any

import numpy as np

from broker.placement.arrays import Floats
from topology.resources import EPSILON, MOST_TIMES

NEXT_TO_NOTHING = 1e-300
"""Stands for what is not needed where a need divides."""


class Needs:
    """Needs as rows. `divisors` has each task's amounts, next to nothing where it needs nothing; `wholes` those of all tasks."""

    def __init__(self, width: int) -> None:
        self._divisors, self._wholes, self._tasks = np.zeros((64, width)), np.zeros((64, width)), np.zeros(64)
        self._count = 0

    def add(self, task: Floats, tasks: int) -> int:
        """One more; its row."""
        if tasks < 1:
            raise ValueError(f"a job of {tasks} tasks")
        if self._count == len(self._tasks):
            self._divisors, self._wholes = (np.concatenate([m, np.zeros_like(m)]) for m in (self._divisors, self._wholes))
            self._tasks = np.concatenate([self._tasks, np.zeros_like(self._tasks)])
        self._divisors[self._count] = divisor(task)
        self._wholes[self._count] = task * tasks
        self._tasks[self._count] = tasks
        self._count += 1
        return self._count - 1

    def __len__(self) -> int:
        return self._count

    @property
    def divisors(self) -> Floats:
        """By row and resource, never 0."""
        return self._divisors[: self._count]

    @property
    def wholes(self) -> Floats:
        """By row and resource, of a whole job."""
        return self._wholes[: self._count]

    @property
    def tasks(self) -> Floats:
        """By row."""
        return self._tasks[: self._count]


def divisor(need: Floats) -> Floats:
    """A need with next to nothing where there is none."""
    return np.where(need > EPSILON, need, NEXT_TO_NOTHING)


def times_in(have: Floats, need: Floats) -> Any:
    """As `Resources.times_in`, to the last bit, for each of several needs, none of them 0, and amounts."""
    times = (have + EPSILON) / need
    return np.clip(np.trunc(times.min(axis=-1)), 0, MOST_TIMES)
