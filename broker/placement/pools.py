"""A pool while a plan is made: what is free, what will be released, who waits for it and what is kept for the first who does."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

from broker.placement.view import Held, SiteView
from topology.resources import Resources
from topology.room import Room
from topology.site import Pool

SOONEST_HOURS = 1 / 60
"""No release is expected within less than a minute."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """What is kept for the first that waits: it starts in `hours`, and until then `spare` is what others may hold longer."""

    hours: float
    spare: Resources


class PoolState:
    """One pool at one moment. Changed only by the plan that made it.

    Backfilling is EASY (Lifka, 1995): the first job that waits for the pool gets a promised start, and what comes later in the
    order may only take room that it gives back before, or that the first will not need.
    """

    def __init__(self, site: str, pool: Pool, usable: Room, held: tuple[Held, ...], now: float, queue_ahead: float = 0.0) -> None:
        self.site = site
        self.name = pool.name
        self.usable = usable.total
        self.room = _after(usable, held)
        self.shadow: Shadow | None = None
        self.version = 0
        """Grows with every change here."""
        self.backlog_hours = 0.0
        """How long the pool as a whole would work on what waits for it already."""
        self._ahead = _ahead(pool, usable, held, queue_ahead) if queue_ahead else Resources()
        self._per_node = pool.per_node
        self._held = held
        self._now = now
        self._fits: dict[Resources, int] = {}
        self._found: dict[Resources, tuple[float, Resources] | None] = {}
        self._total: Resources | None = None
        self._releases: list[tuple[float, Resources]] | None = None

    @property
    def total(self) -> Resources:
        """What is free by the sum of all nodes."""
        if self._total is None:
            self._total = self.room.total
        return self._total

    def fit(self, task: Resources) -> int:
        """The most tasks of this size that would start now."""
        fit = self._fits.get(task)
        if fit is None:
            fit = self._fits[task] = self.room.fit(task)
        return fit

    def capacity(self, task: Resources, tasks: int, busy_hours: float) -> int:
        """How many jobs, of `tasks` tasks that stay for `busy_hours`, may start now."""
        jobs = self.fit(task) // tasks
        if not jobs or self.shadow is None or busy_hours <= self.shadow.hours:
            return jobs
        return min(jobs, (task * tasks).times_in(self.shadow.spare))

    def take(self, task: Resources, tasks: int, jobs: int, busy_hours: float) -> None:
        """Room for that many jobs is gone. Raises ValueError for more than `capacity` said."""
        room = self.room.take(task, tasks * jobs)
        if room is None:
            raise ValueError(f"{tasks * jobs} tasks of {task} do not fit pool {self.name} at {self.site}")
        self.version += 1
        self.room, self._total = room, None
        self._fits.clear()
        self._found.clear()
        if self.shadow and busy_hours > self.shadow.hours:
            self.shadow = Shadow(self.shadow.hours, self.shadow.spare - task * (tasks * jobs))

    def ahead(self, task: Resources, tasks: int) -> int:
        """How many jobs, of `tasks` tasks, that would wait for this pool may do so in the site's own queue: none while room is
        kept here for an earlier one, which the site knows nothing of and would start them before."""
        return 0 if self.shadow else (task * tasks).times_in(self._ahead)

    def take_ahead(self, task: Resources, tasks: int, jobs: int, share_hours: float) -> None:
        """That many jobs wait in the site's own queue from now on; each keeps the whole pool busy for `share_hours`."""
        self._ahead -= task * (tasks * jobs)
        self.queue(share_hours * jobs)

    def wait_hours(self, task: Resources, tasks: int, run_hours: float, waited_hours: float) -> float:
        """How long a job that does not fit now would wait: until our own attempts have given enough back, after what waits here
        already. Where that never suffices, others' work is in the way, and the guess is one run time of its own or as long again
        as it has waited, so that nothing waits for ever on a guess."""
        release = self._release(task * tasks)
        return (max(run_hours, waited_hours) if release is None else release[0]) + self.backlog_hours

    def share_hours(self, task: Resources, tasks: int, run_hours: float) -> float:
        """How long the whole pool works on one such job: its run time by the largest part of the pool that it takes."""
        return run_hours * _share(task * tasks, self.usable)

    def promise(self, task: Resources, tasks: int) -> None:
        """The first of all that wait here gets its start promised, unless that cannot be predicted: then holding room back
        would not bring it closer."""
        release = self._release(task * tasks) if self.shadow is None else None
        if release is not None:
            self.shadow = Shadow(release[0], self._spare(task, tasks, release[1]))

    def queue(self, share_hours: float) -> None:
        """So many hours of the whole pool's work wait here from now on."""
        self.version += 1
        self.backlog_hours += share_hours

    def _spare(self, task: Resources, tasks: int, released: Resources) -> Resources:
        """What the first that waits leaves over at its start, by sums. Where the sums would do now and only broken-up nodes
        keep it out, the nodes with the most room are kept for it: else small tasks would for ever keep every node from a large
        one."""
        need = task * tasks
        by_sum = self.total + released - need
        if not need.fits(self.total):
            return _least(by_sum, by_sum)
        nodes = math.ceil(tasks / max(task.times_in(self._per_node), 1))
        return _least(by_sum, _without_freest(self.room, nodes).total)

    def _release(self, need: Resources) -> tuple[float, Resources] | None:
        """Hours until our attempts have given back enough for `need`, by sums, and all they have given back by then; at least one
        must end, since there is no room now. None when all of them together do not suffice."""
        if need not in self._found:
            if self._releases is None:
                self._releases = _cumulated(self._held, self._now)
            short = need - self.total
            index = bisect_left(self._releases, True, key=lambda release: short.fits(release[1]))
            self._found[need] = self._releases[index] if index < len(self._releases) else None
        return self._found[need]


def pools_of(view: SiteView, now: float) -> dict[str, PoolState]:
    """The declared pools of a site. One that the site does not report has no room."""
    return {
        pool.name: PoolState(
            view.site.name,
            pool,
            view.rooms.get(pool.name, Room()),
            tuple(group for group in view.held if group.pool == pool.name),
            now,
            view.site.queue_ahead,
        )
        for pool in view.site.pools
    }


def _after(room: Room, held: tuple[Held, ...]) -> Room:
    """The room once all that is held is off, the largest tasks first. Where others took what was promised, nothing is left
    of it: as much as fits is taken."""
    for group in sorted(held, key=lambda h: (h.task.gpu_count, h.task.cpus, h.task.memory_gib), reverse=True):
        tasks = min(group.tasks * len(group.ends), room.fit(group.task))
        room = room.take(group.task, tasks) or room
    return room


def _ahead(pool: Pool, usable: Room, held: tuple[Held, ...], share: float) -> Resources:
    """What may still be handed to the site's own queue: `share` of the pool, less what we hold there beyond its room."""
    whole = pool.per_node * pool.nodes
    most = Resources.of(whole.cpus * share, whole.memory_gib * share, {kind: int(count * share) for kind, count in whole.gpus})
    ours = Resources()
    for group in held:
        ours = ours + group.task * (group.tasks * len(group.ends))
    return most - ours.shortfall(usable.total)


def _cumulated(held: tuple[Held, ...], now: float) -> list[tuple[float, Resources]]:
    """(hours from now, all given back until then), in order; attempts of no known end are left out. One that is overdue is
    expected to take as long again as it is late, so that nothing waits for ever on a promise that was not kept."""
    releases: list[tuple[float, Resources]] = []
    for group in held:
        amount = group.task * group.tasks
        releases += [(max(abs(end - now) / 3600, SOONEST_HOURS), amount) for end in group.ends if math.isfinite(end)]
    releases.sort(key=lambda release: release[0])
    total, last = Resources(), len(releases) - 1
    cumulated = []
    for index, (hours, amount) in enumerate(releases):
        total = total + amount
        if index == last or releases[index + 1][0] > hours:
            cumulated.append((hours, total))
    return cumulated


def _share(need: Resources, usable: Resources) -> float:
    """The largest part of `usable` that `need` takes in any one resource; 1 where there is none of it."""
    have = dict(usable.gpus)
    pairs = [(need.cpus, usable.cpus), (need.memory_gib, usable.memory_gib), *((n, have.get(kind, 0)) for kind, n in need.gpus)]
    return max((min(wanted / there, 1.0) if there > 0 else 1.0 for wanted, there in pairs if wanted > 0), default=0.0)


def _least(a: Resources, b: Resources) -> Resources:
    """The smaller amount in each resource, never below zero."""
    have = dict(b.gpus)
    gpus = {kind: max(min(count, have.get(kind, 0)), 0) for kind, count in a.gpus}
    return Resources.of(max(min(a.cpus, b.cpus), 0.0), max(min(a.memory_gib, b.memory_gib), 0.0), gpus)


def _without_freest(room: Room, nodes: int) -> Room:
    left: list[tuple[Resources, int]] = []
    for free, count in reversed(room.groups):
        kept = min(nodes, count)
        nodes -= kept
        left.append((free, count - kept))
    return Room.of(left)
