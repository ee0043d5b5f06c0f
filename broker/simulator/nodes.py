"""The nodes of a pool in a simulation: which is free by how much, kept by groups of equals, so that a thousand cost a handful."""

from __future__ import annotations

from collections.abc import Iterable

from topology.resources import Resources
from topology.room import Room
from topology.site import Pool

Allocation = tuple[tuple[int, int], ...]
"""Where a job's tasks are: (node, tasks) pairs."""


class Nodes:
    """The nodes of one pool, by number. Packs as `Room.take` does: onto the fullest that hold a task."""

    def __init__(self, pool: Pool) -> None:
        self._per_node = pool.per_node
        self._free: dict[int, Resources] = {}
        self._groups: dict[Resources, dict[int, None]] = {}
        self._order: list[Resources] | None = None
        self._lost: dict[int, Resources] = {}
        self._total: Resources | None = None
        self._usable: Room | None = None
        for number in range(pool.nodes):
            self._enter(number, pool.per_node)

    @property
    def usable(self) -> Room:
        """All nodes that are there, as if empty."""
        if self._usable is None:
            self._usable = Room.of([(self._per_node, len(self._free))])
        return self._usable

    @property
    def free(self) -> Resources:
        """The sum over all nodes."""
        if self._total is None:
            self._total = Resources()
            for free, nodes in self._groups.items():
                self._total += free * len(nodes)
        return self._total

    def take(self, task: Resources, tasks: int) -> Allocation | None:
        """Nodes for all tasks at once; None, and nothing taken, where they do not fit."""
        taken: list[tuple[int, int]] = []
        left = tasks
        for free in self._fullest_first():
            each = task.times_in(free)
            if not each:
                continue
            for node in self._groups[free]:
                taken.append((node, min(each, left)))
                left -= taken[-1][1]
                if not left:
                    for at, count in taken:
                        self._move(at, self._free[at] - task * count)
                    return tuple(taken)
        return None

    def give(self, task: Resources, allocation: Allocation) -> None:
        """Tasks of this size are over. What a lost node held is given back to it, wherever it is."""
        for node, count in allocation:
            if node in self._lost:
                self._lost[node] = self._lost[node] + task * count
            else:
                self._move(node, self._free[node] + task * count)

    def lose(self, count: int) -> set[int]:
        """That many nodes are gone, those with the least free first: their numbers."""
        gone = sorted(self._free, key=lambda node: (_size(self._free[node]), node))[:count]
        for node in gone:
            self._lost[node] = self._free[node]
            self._leave(node)
        self._usable = None
        return set(gone)

    def find_again(self, nodes: Iterable[int]) -> None:
        """Lost nodes are back."""
        for node in nodes:
            self._enter(node, self._lost.pop(node))
        self._usable = None

    def _fullest_first(self) -> list[Resources]:
        if self._order is None:
            self._order = sorted(self._groups, key=_size)
        return self._order

    def _move(self, node: int, free: Resources) -> None:
        self._leave(node)
        self._enter(node, free)

    def _leave(self, node: int) -> None:
        free = self._free.pop(node)
        self._total = None
        members = self._groups[free]
        del members[node]
        if not members:
            del self._groups[free]
            self._order = None

    def _enter(self, node: int, free: Resources) -> None:
        free = _rounded(free)
        self._free[node] = free
        self._total = None
        if free not in self._groups:
            self._groups[free] = {}
            self._order = None
        self._groups[free][node] = None


def _size(free: Resources) -> tuple[int, float, float, tuple[tuple[str, int], ...]]:
    return (free.gpu_count, free.cpus, free.memory_gib, free.gpus)


def _rounded(free: Resources) -> Resources:
    """Without the dust of sums, so that nodes that are equally free are equal."""
    return Resources(round(free.cpus, 9), round(free.memory_gib, 9), free.gpus)
