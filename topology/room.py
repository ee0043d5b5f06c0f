"""Room: the free part of a pool, node by node, so that fragmentation counts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from topology.resources import Resources


@dataclass(frozen=True, slots=True)
class Room:
    """Free resources of a pool as groups of equal nodes: (free on each, number of such nodes), fullest first.

    A thousand nodes are a handful of groups, so fitting and taking cost the groups and not the nodes.
    """

    groups: tuple[tuple[Resources, int], ...] = ()

    @staticmethod
    def of(nodes: Iterable[tuple[Resources, int]]) -> Room:
        """Room from (free, node count) pairs in any order; equal ones are merged."""
        merged: dict[Resources, int] = {}
        for free, count in nodes:
            if count > 0:
                merged[free] = merged.get(free, 0) + count
        return Room(tuple(sorted(merged.items(), key=_fullness)))

    @property
    def total(self) -> Resources:
        """The sum over all nodes: an upper bound, never a promise that something fits."""
        total = Resources()
        for free, count in self.groups:
            total = total + free * count
        return total

    def fit(self, task: Resources, most: int | None = None) -> int:
        """How many tasks of this size fit at once: the largest gang. Counted up to `most` only, where that is enough to know."""
        fit = 0
        for free, count in self.groups:
            if most is not None and fit >= most:
                return most
            fit += task.times_in(free) * count
        return fit if most is None else min(fit, most)

    def take(self, task: Resources, tasks: int) -> Room | None:
        """The room left after packing `tasks` of this size onto the fullest nodes that hold them; None if they do not fit."""
        left: list[tuple[Resources, int]] = []
        packed: list[tuple[Resources, int]] = []
        for number, (free, count) in enumerate(self.groups):
            if not tasks:
                left += self.groups[number:]
                break
            per_node = task.times_in(free)
            if not per_node:
                left.append((free, count))
                continue
            full = min(tasks // per_node, count)
            tasks -= full * per_node
            packed.append((free - task * per_node, full))
            rest = count - full
            if tasks and rest:
                packed.append((free - task * tasks, 1))
                tasks, rest = 0, rest - 1
            if rest:
                left.append((free, rest))
        return None if tasks else _with(left, packed)

    def give(self, task: Resources, tasks: int) -> Room:
        """The room with `tasks` of this size given back, as if on nodes of their own: a guess used for predictions only."""
        return Room.of((*self.groups, (task, tasks)))


def _with(groups: list[tuple[Resources, int]], more: Iterable[tuple[Resources, int]]) -> Room:
    """The room of groups that are in order already, and of a few more in any order."""
    for free, count in more:
        if not count:
            continue
        key = _fullness((free, count))
        place = bisect_left(groups, key, key=_fullness)
        if place < len(groups) and groups[place][0] == free:
            count += groups.pop(place)[1]
        groups.insert(place, (free, count))
    return Room(tuple(groups))


def _fullness(group: tuple[Resources, int]) -> tuple[int, float, float, tuple[tuple[str, int], ...]]:
    free, _ = group
    return (free.gpu_count, free.cpus, free.memory_gib, free.gpus)
