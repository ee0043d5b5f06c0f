"""A site's own scheduler in a simulation: what does not fit at once waits in a queue per pool, first come first served, with EASY
backfill (Lifka, 1995) of the first hundred that wait, as Slurm's `bf_max_job_test` bounds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from broker.placement.view import Held
from broker.simulator.nodes import Allocation, Nodes
from topology.resources import Resources
from topology.room import Room
from topology.site import Pool

BACKFILLED = 100

Busy = tuple[tuple[float, float], tuple[float, float]]
"""(busy, whole) of cpus, and of GPUs."""


@dataclass(slots=True, eq=False)
class Stay:
    """A job's stay in a pool: `tasks` tasks of size `task`, expected to run for `expected_s`. `on_start` is called when it
    starts; `expected_end` is known from its placement on, and again from its start."""

    task: Resources
    tasks: int
    expected_s: float
    on_start: Callable[[], None]
    expected_end: float
    allocation: Allocation | None = None


class PoolScheduler:
    """One pool: its nodes, what runs there, and what waits for it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.nodes = Nodes(pool)
        self.here: dict[tuple[Resources, int], dict[Stay, None]] = {}
        """All that was placed here, coming, waiting or running, by size."""
        self._running: dict[Stay, None] = {}
        self._queue: dict[Stay, None] = {}
        self._busy: tuple[Resources, Room, Busy] | None = None

    @property
    def usable(self) -> Room:
        """What the federation may use: nodes that are there."""
        return self.nodes.usable

    def held(self) -> Iterable[Held]:
        """What is here, by size, with its expected ends."""
        for (task, tasks), members in self.here.items():
            yield Held(self.pool.name, task, tasks, tuple([member.expected_end for member in members]))

    def waiting(self) -> Iterable[Held]:
        """What waits in the pool's own queue, by size."""
        found: dict[tuple[Resources, int], list[float]] = {}
        for stay in self._queue:
            found.setdefault((stay.task, stay.tasks), []).append(stay.expected_end)
        for (task, tasks), ends in found.items():
            yield Held(self.pool.name, task, tasks, tuple(ends))

    def busy(self) -> Busy:
        """By the nodes that are there; worked out again only after a change."""
        free, usable, known = self.nodes.free, self.nodes.usable, self._busy
        if known is None or known[0] is not free or known[1] is not usable:
            whole = usable.total
            found = (whole.cpus - free.cpus, whole.cpus), (float(whole.gpu_count - free.gpu_count), float(whole.gpu_count))
            known = self._busy = (free, usable, found)
        return known[2]

    def expect(self, stay: Stay) -> None:
        """It was placed here; its inputs may still be on their way."""
        self.here.setdefault((stay.task, stay.tasks), {})[stay] = None

    def submit(self, stay: Stay, now: float) -> None:
        """Its inputs are here: it starts, or waits."""
        if self._queue or not self._start(stay, now):
            self._queue[stay] = None
            if len(self._queue) <= BACKFILLED:
                self.schedule(now)

    def leave(self, stay: Stay) -> None:
        """It is over, or is taken back. What waits may start: see `schedule`."""
        members = self.here[stay.task, stay.tasks]
        del members[stay]
        if not members:
            del self.here[stay.task, stay.tasks]
        self._queue.pop(stay, None)
        self._running.pop(stay, None)
        if stay.allocation is not None:
            self.nodes.give(stay.task, stay.allocation)
            stay.allocation = None

    def schedule(self, now: float) -> None:
        """Start what may start: the first while they fit, then others that do not hold up the first that does not."""
        while self._queue:
            first = next(iter(self._queue))
            if not self._start(first, now):
                break
        if len(self._queue) > 1:
            self._backfill(now)

    def _start(self, stay: Stay, now: float) -> bool:
        allocation = self.nodes.take(stay.task, stay.tasks)
        if allocation is None:
            return False
        stay.allocation = allocation
        stay.expected_end = now + stay.expected_s
        self._queue.pop(stay, None)
        self._running[stay] = None
        stay.on_start()
        return True

    def _backfill(self, now: float) -> None:
        waiting = iter(list(self._queue)[: BACKFILLED + 1])
        first = next(waiting)
        shadow, spare = self._reserve(first, now)
        refused: set[tuple[Resources, int]] = {(first.task, first.tasks)}
        for stay in waiting:
            size = (stay.task, stay.tasks)
            if size in refused:
                continue
            need = stay.task * stay.tasks
            is_over_by_then = now + stay.expected_s <= shadow
            if not is_over_by_then and not need.fits(spare):
                continue
            if not self._start(stay, now):
                refused.add(size)
            elif not is_over_by_then:
                spare = spare - need

    def _reserve(self, first: Stay, now: float) -> tuple[float, Resources]:
        """When the first that waits should start, by sums, and what it leaves over then."""
        free, need, end = self.nodes.free, first.task * first.tasks, now
        for expected_end, stay in sorted(((run.expected_end, run) for run in self._running), key=lambda pair: pair[0]):
            if need.fits(free):
                break
            free, end = free + stay.task * stay.tasks, max(expected_end, now)
        return end, free - need
