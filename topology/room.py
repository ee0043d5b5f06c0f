"""Room: the free part of a pool, node by node, so that fragmentation counts."""

from __future__ import annotations

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

    def fit(self, task: Resources) -> int:
        """How many tasks of this size fit at once: the largest gang."""
        return sum(task.times_in(free) * count for free, count in self.groups)

    def take(self, task: Resources, tasks: int) -> Room | None:
        """The room left after packing `tasks` of this size onto the fullest nodes that hold them; None if they do not fit."""
        left: list[tuple[Resources, int]] = []
        for free, count in self.groups:
            per_node = task.times_in(free) if tasks else 0
            if not per_node:
                left.append((free, count))
                continue
            full = min(tasks // per_node, count)
            tasks -= full * per_node
            left.append((free - task * per_node, full))
            rest = count - full
            if tasks and rest:
                left.append((free - task * tasks, 1))
                tasks, rest = 0, rest - 1
            left.append((free, rest))
        return None if tasks else Room.of(left)

    def give(self, task: Resources, tasks: int) -> Room:
        """The room with `tasks` of this size given back, as if on nodes of their own: a guess used for predictions only."""
        return Room.of((*self.groups, (task, tasks)))


def _fullness(group: tuple[Resources, int]) -> tuple[int, float, float, tuple[tuple[str, int], ...]]:
    free, _ = group
    return (free.gpu_count, free.cpus, free.memory_gib, free.gpus)
