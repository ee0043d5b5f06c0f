"""Job ids in their order, which is that of the jobs' age, where many come at the end and many go at the beginning."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import islice


class Ids:
    """Sorted, each once. One that is taken out stays in the list, hidden, until as many are hidden as not: to take each one out
    of a long list at once would move all that follow, and a hundred thousand deleted jobs would hold the loop for seconds."""

    __slots__ = ("_hidden", "_ids")

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._hidden: set[str] | None = None

    def __len__(self) -> int:
        return len(self._ids) - (len(self._hidden) if self._hidden else 0)

    def __iter__(self) -> Iterator[str]:
        """The oldest first."""
        hidden = self._hidden
        return iter([each for each in self._ids if each not in hidden]) if hidden else iter(self._ids)

    def add(self, job: str) -> None:
        """Enter one; one that is there stays."""
        ids = self._ids
        if self._hidden and job in self._hidden:
            self._hidden.remove(job)
        elif not ids or job > ids[-1]:
            ids.append(job)
        elif ids[bisect_left(ids, job)] != job:
            insort(ids, job)

    def discard(self, job: str) -> None:
        """Take one out; one that is not there need not be."""
        ids = self._ids
        at = bisect_left(ids, job)
        if at == len(ids) or ids[at] != job:
            return
        self._hidden = self._hidden or set()
        self._hidden.add(job)
        if 2 * len(self._hidden) > len(ids):
            self._ids = [each for each in ids if each not in self._hidden]
            self._hidden = None

    def newest(self, before: str | None = None) -> Iterator[str]:
        """The newest first; only those older than `before`. Not to be gone on with after a change."""
        end = len(self._ids) if before is None else bisect_left(self._ids, before)
        older = islice(reversed(self._ids), len(self._ids) - end, None)
        hidden = self._hidden
        return (each for each in older if each not in hidden) if hidden else older
