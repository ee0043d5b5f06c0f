"""Which queued run starts next, and on which nodes: first come first served, and behind what does not fit, what does.

A run that has waited for `PATIENCE_S` closes its pool to those behind it until it has started, so that a gang does not starve.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from topology.resources import Resources
from topology.room import Room
from topology.site import Pool

PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where one task is: the node's number in its pool, and the indices of its GPUs there."""

    node: int
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Need:
    """What a run asks for. Runs of equal needs queue in one line, so that a long queue costs its few lines and not its runs."""

    pool: str
    per_task: Resources
    tasks: int


@dataclass(slots=True)
class Node:
    """What is free on one node, and the free indices of each GPU type. Indices count over all types, in the order of names."""

    free: Resources
    gpus: dict[str, list[int]]

    @staticmethod
    def empty(per_node: Resources) -> Node:
        """A node on which nothing runs."""
        gpus: dict[str, list[int]] = {}
        first = 0
        for kind, count in per_node.gpus:
            gpus[kind] = list(range(first, first + count))
            first += count
        return Node(per_node, gpus)

    def take(self, per_task: Resources) -> tuple[int, ...]:
        """Room for one task; the indices of its GPUs."""
        self.free = self.free - per_task
        return tuple(self.gpus[kind].pop(0) for kind, count in per_task.gpus for _ in range(count))


class Nodes:
    """The nodes of all pools and what is free on them."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self.pools = {pool.name: pool for pool in pools}
        self._nodes = {pool.name: [Node.empty(pool.per_node) for _ in range(pool.nodes)] for pool in pools}

    def place(self, need: Need) -> tuple[Place, ...] | None:
        """Take a place for every task, the fullest nodes first; None, and nothing taken, when not all have one."""
        nodes = self._nodes.get(need.pool, ())
        chosen: list[int] = []
        for number in sorted(range(len(nodes)), key=lambda number: _fullness(nodes[number].free)):
            times = min(need.per_task.times_in(nodes[number].free), need.tasks - len(chosen))
            chosen += [number] * times
            if len(chosen) == need.tasks:
                return tuple(Place(number, nodes[number].take(need.per_task)) for number in chosen)
        return None

    def take(self, need: Need, places: Iterable[Place]) -> None:
        """Enter a run that runs already. Of nodes that are no longer declared nothing is taken."""
        for place, node in self._of(need, places):
            node.free = node.free - need.per_task
            for indices in node.gpus.values():
                indices[:] = [index for index in indices if index not in place.gpus]

    def give(self, need: Need, places: Iterable[Place]) -> None:
        """Take a run's tasks off their nodes."""
        for place, node in self._of(need, places):
            node.free = node.free + need.per_task
            first = 0
            for kind, count in self.pools[need.pool].per_node.gpus:
                back = [index for index in place.gpus if first <= index < first + count]
                node.gpus[kind] = sorted({*node.gpus[kind], *back})
                first += count

    def rooms(self, own: Iterable[tuple[Need, Sequence[Place]]]) -> dict[str, Room]:
        """By pool, what is free and what the runs `own` hold."""
        free = {pool: [node.free for node in nodes] for pool, nodes in self._nodes.items()}
        for need, places in own:
            for place, _ in self._of(need, places):
                free[need.pool][place.node] += need.per_task
        return {pool: Room.of((node, 1) for node in nodes) for pool, nodes in free.items()}

    def objection(self, need: Need) -> str:
        """Why this can never run here; empty when it can."""
        pool = self.pools.get(need.pool)
        if pool is None:
            return f"there is no pool {need.pool} here: there are {', '.join(self.pools)}"
        short = need.per_task.shortfall(pool.per_node)
        if short != Resources():
            return f"a task needs {short} more than a node of pool {pool.name} has"
        most = pool.empty.fit(need.per_task)
        return f"{need.tasks} tasks at once, where pool {pool.name} holds {most} of them" if need.tasks > most else ""

    def _of(self, need: Need, places: Iterable[Place]) -> Iterable[tuple[Place, Node]]:
        nodes = self._nodes.get(need.pool, ())
        return [(place, nodes[place.node]) for place in places if place.node < len(nodes)]


def _fullness(free: Resources) -> tuple[int, float, float]:
    return (free.gpu_count, free.cpus, free.memory_gib)


class Queue:
    """Runs that wait, in the order they came."""

    def __init__(self) -> None:
        self._lines: dict[Need, dict[str, tuple[int, float]]] = {}
        self._needs: dict[str, Need] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._needs)

    def add(self, name: str, need: Need, since: float) -> None:
        """To the end of the queue; `since` is when its waiting began (epoch seconds)."""
        self._last += 1
        self._needs[name] = need
        self._lines.setdefault(need, {})[name] = (self._last, since)

    def remove(self, name: str) -> None:
        """Out of the queue; one that is not in it is not an error."""
        need = self._needs.pop(name, None)
        if need is None:
            return
        line = self._lines[need]
        del line[name]
        if not line:
            del self._lines[need]

    def take(self, nodes: Nodes, now: float, most: int) -> list[tuple[str, tuple[Place, ...]]]:
        """Up to `most` runs that start now, with their places; they leave the queue and take their room."""
        heads = [(next(iter(line.values())), need) for need, line in self._lines.items()]
        waiting = [(number, since, index) for index, ((number, since), _) in enumerate(heads)]
        heapq.heapify(waiting)
        closed: set[str] = set()
        taken: list[tuple[str, tuple[Place, ...]]] = []
        while waiting and len(taken) < most:
            _, since, index = heapq.heappop(waiting)
            need = heads[index][1]
            if need.pool in closed:
                continue
            places = nodes.place(need)
            if places is None:
                if now - since >= PATIENCE_S:
                    closed.add(need.pool)
                continue
            name = next(iter(self._lines[need]))
            self.remove(name)
            taken.append((name, places))
            if need in self._lines:
                waiting_next = next(iter(self._lines[need].values()))
                heapq.heappush(waiting, (*waiting_next, index))
        return taken
