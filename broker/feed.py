"""The latest changes of jobs, in memory, for those who follow them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from broker.world import Job, World

KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Change:
    """A job's phase, attempt, hold or wish to end changed. `number` counts the changes of this process; `revision` is the
    store's."""

    number: int
    revision: int
    job: Job


class Feed:
    """A ring of changes. What a mirror that is being read anew brings is no news: then the ring begins again."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ring: deque[Change] = deque(maxlen=KEPT)
        self._number = 0
        self._base = 0
        world.job_watchers.append(self._on_job)

    @property
    def number(self) -> int:
        """Of the latest change."""
        return self._number

    def after(self, number: int) -> Iterator[Change] | None:
        """The changes behind that one; None where some of them are no longer known."""
        first = self._ring[0].number if self._ring else self._number + 1
        if number + 1 < first:
            return None
        later = islice(reversed(self._ring), max(self._number - number, 0))  # numbers follow each other
        return reversed(list(later))

    def number_of(self, revision: int) -> int | None:
        """After which change somebody goes on who knows all up to a revision; None where it is too long ago."""
        same = [change.number for change in self._ring if change.revision == revision]
        if same:
            return same[-1]
        latest = self._world.mirror.revision
        if revision < (self._base or latest) or revision > latest:  # a later one than ours: of before a restore, or we lag
            return None
        return next((change.number - 1 for change in self._ring if change.revision > revision), self._number)

    def _on_job(self, old: Job | None, new: Job | None) -> None:
        if not self._world.mirror.is_live:
            self._ring.clear()
            self._base = 0
            return
        if new is None or (old is not None and _told(old) == _told(new)):
            return
        if len(self._ring) == KEPT:
            self._base = self._ring[0].revision
        elif not self._base:
            self._base = self._world.mirror.revision
        self._number += 1
        self._ring.append(Change(self._number, max(new.wish_revision, new.state_revision), new))


def _told(job: Job) -> tuple[object, ...]:
    return job.state.phase, job.state.number, job.wish.hold is None, job.wish.cancel is None
