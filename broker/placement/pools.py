"""The pools of all sites while a plan is made: what is free, what will be released, who waits and what is kept for the first.

All of it is in matrices, so that a class of jobs is held against all pools at once: a column for each pool, a row for each need
(so many tasks of one size). Columns are kept from plan to plan and worked out anew only where their pool has changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from broker.placement.arrays import Floats, Places
from broker.placement.needs import NEXT_TO_NOTHING, Needs, divisor, times_in
from broker.placement.view import Held, SiteView
from topology.resources import EPSILON, Resources
from topology.room import Room
from topology.site import Pool, Site

SOONEST_HOURS = 1 / 60
"""No release is expected within less than a minute."""
MOST_RELEASES = 128
"""Where more are expected in a pool they are counted in so many lots, each at its last."""


@dataclass(slots=True)
class _Column:
    """One pool. `room` and `ahead` shrink while a plan is made; the others stand as long as the site's view does."""

    pool: Pool
    nodes: Floats
    """What is free on the nodes of each group."""
    counts: Floats
    total: Floats
    times: Floats
    """When our own attempts should be over (epoch seconds), rising; infinity at the end."""
    released: Floats
    """All that they have given back by then."""
    usable: Room = Room()
    held: tuple[Held, ...] = ()
    observed: Room = Room()
    """What is free as the plan begins."""
    most_ahead: Resources = Resources()
    packed: list[tuple[Resources, int, Room]] = field(default_factory=list)
    """How `observed` came about: tasks of each size, the largest first, and what they left."""
    room: Room = Room()
    taken: list[tuple[Resources, int]] = field(default_factory=list)
    """What this plan has taken of it: tasks of a size, in order."""
    ahead: Resources = Resources()

    @staticmethod
    def of(pool: Pool, width: int) -> _Column:
        """A pool of which nothing was seen."""
        none, nothing = np.zeros((0, width)), np.zeros(width)
        return _Column(pool, none, np.zeros(0), nothing, np.array([math.inf]), none)


@dataclass(frozen=True, slots=True)
class Promises:
    """By pool: in how many hours the first that waits for it starts (infinity: nobody waits), and what others may hold beyond
    that, by resource."""

    hours: Floats
    spare: Floats


class Pools:
    """The pools of a set of sites, by the sites' names and their own.

    Backfilling is EASY (Lifka, 1995): the first job that waits for a pool gets a promised start, and what comes later in the
    order may only take room that it gives back before, or that the first will not need.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        pairs = [(index, pool) for index, site in enumerate(sites) for pool in sorted(site.pools, key=lambda pool: pool.name)]
        self.kinds = sorted({kind for _, pool in pairs for kind, _ in pool.per_node.gpus})
        """GPU types: amounts are vectors of cpus, GiB of memory and a count for each of these."""
        self.sites = np.array([index for index, _ in pairs], dtype=np.intp)
        self.pools = [pool for _, pool in pairs]
        self.now = 0.0
        self.backlog = np.zeros(len(pairs))
        """How many hours each pool as a whole would work on what waits for it already."""
        self.has_ahead = np.zeros(len(pairs), dtype=bool)
        """Where something may wait in the site's own queue."""
        self._columns = [_Column.of(pool, 2 + len(self.kinds)) for pool in self.pools]
        self._views: list[SiteView | None] = [None] * len(sites)
        self._of_site = [[place for place, (of, _) in enumerate(pairs) if of == index] for index in range(len(sites))]
        self._promised = np.full(len(pairs), math.inf)
        self._made: set[int] = set()
        """Where the promise is of room that others make."""
        self._spare = np.zeros((len(pairs), 2 + len(self.kinds)))
        self._rows: dict[tuple[Resources, int], int] = {}
        self._needs = Needs(2 + len(self.kinds))
        self._fit = np.zeros((0, len(pairs)))
        self._release = np.zeros((0, len(pairs)))
        self._whole = np.full((len(pairs), 2 + len(self.kinds)), NEXT_TO_NOTHING)
        """All that may be used; next to nothing where there is nothing."""
        self._changed = set(range(len(pairs)))
        """Columns to be worked out anew."""
        self._changed_since = set(range(len(pairs)))
        """Those of which the releases are, too: they are asked for less often."""
        self._touched: set[int] = set()
        """Columns that this plan has changed."""

    def begin(self, views: Sequence[SiteView], now: float) -> None:
        """A plan begins: the sites, in the order of the beginning, as they are seen now."""
        self.now = now
        for place in self._touched:
            self._reset(place)
        self._touched.clear()
        self._promised.fill(math.inf)
        self._made.clear()
        self.backlog.fill(0.0)
        for index, view in enumerate(views):
            known = self._views[index]
            if view is not known:
                self._views[index] = view
                for place in self._of_site[index]:
                    self._see(place, view)
            for place in self._of_site[index]:
                column = self._columns[place]
                if column.times[0] <= now:
                    self._expect(column)
                    self._changed.add(place)

    def vector(self, amount: Resources) -> Floats:
        """As `kinds` says."""
        return np.array(self.amounts(amount), dtype=float)

    def amounts(self, amount: Resources) -> list[float]:
        """The same as a list."""
        have = dict(amount.gpus)
        return [amount.cpus, amount.memory_gib, *[have.get(kind, 0) for kind in self.kinds]]

    def amount(self, vector: Floats) -> Resources:
        """What a vector stands for."""
        counts = {kind: int(count) for kind, count in zip(self.kinds, vector[2:], strict=True)}
        return Resources.of(float(vector[0]), float(vector[1]), counts)

    @property
    def promises(self) -> Promises:
        """What is kept for those that wait."""
        return Promises(self._promised.copy(), self._spare.copy())

    def keep(self, promises: Promises) -> None:
        """Make the promises of another plan of the same world."""
        self._promised[:], self._spare[:] = promises.hours, promises.spare

    def totals(self) -> Floats:
        """What is free by sums: by pool and resource."""
        self._settle()
        return np.array([column.total for column in self._columns])

    def wholes(self) -> Floats:
        """All that may be used: by pool and resource."""
        return np.array([self.vector(column.usable.total) for column in self._columns])

    def needs(self, rows: Places) -> Floats:
        """What whole jobs of these rows take, by resource."""
        return self._needs.wholes[rows]

    def row(self, task: Resources, tasks: int) -> int:
        """The row of a need."""
        found = self._rows.get((task, tasks))
        if found is None:
            found = self._rows[task, tasks] = self._needs.add(self.vector(task), tasks)
        return found

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def fit(self, row: int, place: int) -> int:
        """The most tasks that would start now in one pool."""
        if place in self._changed or row >= len(self._fit):
            self._settle()
        return int(self._fit[row, place])

    def jobs(self, rows: Places, places: Places, busy_hours: Floats) -> Floats:
        """How many jobs, that stay for `busy_hours`, may start now: one number for each pair of row and pool."""
        self._settle()
        jobs = self._fit[rows, places] // self._needs.tasks[rows]
        kept = np.flatnonzero((busy_hours > self._promised[places]) & (jobs > 0))
        if kept.size:
            wholes = divisor(self._needs.wholes[rows[kept]])
            jobs[kept] = np.minimum(jobs[kept], times_in(self._spare[places[kept]], wholes))
        return jobs

    def jobs_within(self, rows: Places, places: Places, hours: Floats) -> Floats:
        """How many jobs may start within so many hours, one number for each pair of row and pool: those that may now and, by
        sums, as many as find room in what our own attempts give back by then."""
        self._settle()
        jobs: Floats = self._fit[rows, places] // self._needs.tasks[rows]
        for number, (row, place) in enumerate(zip(rows, places, strict=True)):
            column = self._columns[place]
            over = int(np.searchsorted(column.times[:-1], self.now + 3600 * hours[number], "right"))
            if over:
                jobs[number] += times_in(column.released[over - 1], divisor(self._needs.wholes[row]))
        return jobs

    def capacity(self, task: Resources, tasks: int, place: int, busy_hours: float, most: int) -> int:
        """The same for one pool, up to `most`, without a look at any other."""
        jobs = self._columns[place].room.fit(task, tasks * most) // tasks
        if not jobs or busy_hours <= self._promised[place]:
            return jobs
        return min(jobs, int(times_in(self._spare[place], divisor(self.vector(task * tasks)))))

    def wait_hours(self, rows: Places, places: Places, run_hours: Floats, waited_hours: float) -> Floats:
        """How long jobs that do not fit now would wait: until our own attempts have given enough back, after what waits there
        already. Where that never suffices, others' work is in the way, and the guess is one run time of its own or as long again
        as it has waited, so that nothing waits for ever on a guess."""
        if not rows.size:
            return np.zeros(0)
        hours = self.release_hours(rows, places)
        waits: Floats = np.where(np.isfinite(hours), hours, np.maximum(run_hours, waited_hours)) + self.backlog[places]
        return waits

    def release_hours(self, rows: Places, places: Places) -> Floats:
        """In how many hours our own attempts have given enough back, if nothing else waited; infinity: never."""
        self._settle_releases()
        hours: Floats = np.maximum((self._release[rows, places] - self.now) / 3600, SOONEST_HOURS)
        return hours

    def share(self, rows: Places, places: Places) -> Floats:
        """The largest part of each pool, in any one resource, that a job takes: times its run time, how long the pool as a whole
        works on it."""
        share: Floats = np.minimum(self._needs.wholes[rows] / self._whole[places], 1.0).max(axis=1)
        return share

    def part(self, amount: Resources, place: int) -> float:
        """The largest part of a pool, in any one resource, that an amount is; 1 at most."""
        return float(np.minimum(self.vector(amount) / self._whole[place], 1.0).max())

    def room(self, place: int) -> Room:
        """What is free in a pool, node by node."""
        return self._columns[place].room

    def take(self, task: Resources, tasks: int, jobs: int, place: int, busy_hours: float) -> None:
        """Room for that many jobs is gone. Raises ValueError for more than `jobs` said."""
        column = self._columns[place]
        room = column.room.take(task, tasks * jobs)
        if room is None:
            raise ValueError(f"{tasks * jobs} tasks of {task} do not fit pool {column.pool.name}")
        self._changed.add(place)
        self._touched.add(place)
        column.room = room
        column.taken.append((task, tasks * jobs))
        if busy_hours > self._promised[place]:
            self._spare[place] -= self.vector(task * (tasks * jobs))

    def ahead(self, task: Resources, tasks: int, place: int) -> int:
        """How many jobs that would wait for a pool may do so in the site's own queue: none while room is kept there for an
        earlier one, which the site knows nothing of and would start them before."""
        return 0 if math.isfinite(self._promised[place]) else (task * tasks).times_in(self._columns[place].ahead)

    def take_ahead(self, task: Resources, tasks: int, jobs: int, place: int, share_hours: float) -> None:
        """That many jobs wait in the site's own queue from now on; each keeps the whole pool busy for `share_hours`."""
        self._touched.add(place)
        self._columns[place].ahead -= task * (tasks * jobs)
        self.backlog[place] += share_hours * jobs

    def promise(self, row: int, place: int) -> None:
        """The first of all that wait for a pool gets its start promised, unless that cannot be predicted: then holding room back
        would not bring it closer."""
        self._settle_releases()
        release = float(self._release[row, place])
        if math.isfinite(self._promised[place]) or not math.isfinite(release):
            return
        column = self._columns[place]
        last = int(np.searchsorted(column.times[:-1], release, "right")) - 1
        self._promised[place] = max((release - self.now) / 3600, SOONEST_HOURS)
        self._spare[place] = self._left_over(column, row, column.released[last])

    def freed(
        self, place: int, gone: Mapping[tuple[Resources, int], int], claims: Iterable[tuple[Resources, int]]
    ) -> Room | None:
        """The room of a pool once so many attempts of each size are gone and these tasks have come; None where they do not."""
        column, left = self._columns[place], dict(gone)
        room = column.usable
        for group in sorted(column.held, key=_largest_first):
            count = len(group.ends)
            off = min(left.get((group.task, group.tasks), 0), count)
            if off:
                left[group.task, group.tasks] -= off
            room = _taken_off(room, group.task, group.tasks * (count - off))
        for task, tasks in (*column.taken, *claims):
            with_it = room.take(task, tasks)
            if with_it is None:
                return None
            room = with_it
        return room

    def may_make_room(self, place: int) -> bool:
        """Not where what comes free is promised to one that waits for it without anybody giving way."""
        return place in self._made or not math.isfinite(self._promised[place])

    def keep_made(self, place: int, left_over: Resources) -> None:
        """Others give way to jobs that will soon start here; what they leave over may be taken."""
        spare = np.maximum(self.vector(left_over), 0.0)
        self._spare[place] = np.minimum(self._spare[place], spare) if math.isfinite(self._promised[place]) else spare
        self._promised[place] = min(self._promised[place], SOONEST_HOURS)
        self._made.add(place)

    def _left_over(self, column: _Column, row: int, released: Floats) -> Floats:
        """What the first that waits leaves over at its start, by sums. Where the sums would do now and only broken-up nodes
        keep it out, the nodes with the most room are kept for it: else small tasks would for ever keep every node from a large
        one."""
        need = self._needs.wholes[row]
        total = _total(column)
        by_sum: Floats = np.maximum(total + released - need, 0.0)
        if (need > total + EPSILON).any():
            return by_sum
        each = int(times_in(self.vector(column.pool.per_node), self._needs.divisors[row]))
        nodes = math.ceil(self._needs.tasks[row] / max(each, 1))
        others: Floats = np.maximum(self.vector(_without_freest(column.room, nodes).total), 0.0)
        return np.minimum(by_sum, others)

    def _see(self, place: int, view: SiteView) -> None:
        """Take over what has changed in a pool. One that the site does not report has no room."""
        column = self._columns[place]
        name = column.pool.name
        usable, held = view.rooms.get(name, Room()), tuple(group for group in view.held if group.pool == name)
        most_ahead = _most_ahead(column.pool, usable, held, view.site.queue_ahead) if view.site.queue_ahead else Resources()
        if (usable, held, most_ahead) == (column.usable, column.held, column.most_ahead):
            return
        column.observed = _after(column, usable, held)
        column.usable, column.held, column.most_ahead = usable, held, most_ahead
        self._whole[place] = np.maximum(self.vector(usable.total), NEXT_TO_NOTHING)
        self.has_ahead[place] = most_ahead != Resources()
        self._expect(column)
        self._reset(place)

    def _reset(self, place: int) -> None:
        column = self._columns[place]
        column.room, column.ahead, column.taken = column.observed, column.most_ahead, []
        self._changed.add(place)

    def _expect(self, column: _Column) -> None:
        """When our attempts will be over. One that is overdue is expected to take a minute more, or two, or four and so on: about
        as long again as it is late, so that nothing waits for ever on a promise that was not kept."""
        ends = np.concatenate([np.array(group.ends) for group in column.held] or [np.zeros(0)])
        amounts = [self.vector(group.task * group.tasks) for group in column.held]
        counts = [len(group.ends) for group in column.held]
        each = np.repeat(np.array(amounts), counts, axis=0) if amounts else self._spare[:0]
        known = np.isfinite(ends)
        ends, each = ends[known], each[known]
        late = np.flatnonzero(ends <= self.now)
        minutes = (self.now - ends[late]) / 60
        ends[late] += 60 * np.exp2(np.floor(np.log2(np.maximum(minutes, 0.5))) + 1)
        order = np.argsort(ends, kind="stable")
        times, released = ends[order], np.cumsum(each[order], axis=0)
        if len(times) > MOST_RELEASES:
            lots = np.linspace(0, len(times) - 1, MOST_RELEASES).round().astype(int)
            times, released = times[lots], released[lots]
        column.times, column.released = np.append(times, math.inf), released

    def _settle(self) -> None:
        """Work out what fits where that has changed."""
        known, wanted = len(self._fit), len(self._needs)
        if wanted > known:
            self._fit = np.pad(self._fit, ((0, wanted - known), (0, 0)))
            for place in range(len(self.pools)):
                if place not in self._changed:
                    self._fill_fit(place, slice(known, wanted))
        for place in self._changed:
            _measure(self._columns[place], self)
            self._fill_fit(place, slice(0, wanted))
        self._changed_since |= self._changed
        self._changed.clear()

    def _settle_releases(self) -> None:
        """Work out what will be released in time where that has changed."""
        self._settle()
        known, wanted = len(self._release), len(self._needs)
        if wanted > known:
            self._release = np.pad(self._release, ((0, wanted - known), (0, 0)))
            for place in range(len(self.pools)):
                if place not in self._changed_since:
                    self._fill_release(place, slice(known, wanted))
        for place in self._changed_since:
            self._fill_release(place, slice(0, wanted))
        self._changed_since.clear()

    def _fill_fit(self, place: int, rows: slice) -> None:
        column = self._columns[place]
        self._fit[rows, place] = times_in(column.nodes, self._needs.divisors[rows, None]) @ column.counts

    def _fill_release(self, place: int, rows: slice) -> None:
        column = self._columns[place]
        short = self._needs.wholes[rows] - (column.total + EPSILON)
        index = np.zeros(len(short), dtype=np.intp)
        for resource in range(short.shape[1]):
            np.maximum(index, np.searchsorted(column.released[:, resource], short[:, resource]), out=index)
        self._release[rows, place] = column.times[index]


def _measure(column: _Column, pools: Pools) -> None:
    groups = column.room.groups
    column.nodes = np.array([pools.amounts(free) for free, _ in groups], dtype=float).reshape(-1, 2 + len(pools.kinds))
    column.counts = np.array([float(count) for _, count in groups])
    column.total = _total(column)


def _total(column: _Column) -> Floats:
    """By the groups as last measured."""
    total: Floats = column.counts @ column.nodes
    return total


def _after(column: _Column, usable: Room, held: Iterable[Held]) -> Room:
    """The room once all that is held is off, the largest tasks first. Where others took what was promised, nothing is left
    of it: as much as fits is taken. Begins where it first differs from the last time."""
    known = column.packed if usable == column.usable else []
    column.packed, room = [], usable
    for number, group in enumerate(sorted(held, key=_largest_first)):
        tasks = group.tasks * len(group.ends)
        if number < len(known) and known[number][:2] == (group.task, tasks):
            room = known[number][2]
        else:
            known = []
            room = _taken_off(room, group.task, tasks)
        column.packed.append((group.task, tasks, room))
    return room


def _taken_off(room: Room, task: Resources, tasks: int) -> Room:
    """Without so many tasks, or as many of them as there are room for."""
    taken = room.take(task, tasks)
    return (room.take(task, min(tasks, room.fit(task))) or room) if taken is None else taken


def _largest_first(held: Held) -> tuple[float, float, float]:
    return (-held.task.gpu_count, -held.task.cpus, -held.task.memory_gib)


def _most_ahead(pool: Pool, usable: Room, held: tuple[Held, ...], share: float) -> Resources:
    """What may still be handed to the site's own queue: `share` of the pool, less what we hold there beyond its room."""
    whole = pool.per_node * pool.nodes
    most = Resources.of(whole.cpus * share, whole.memory_gib * share, {kind: int(count * share) for kind, count in whole.gpus})
    ours = Resources()
    for group in held:
        ours = ours + group.task * (group.tasks * len(group.ends))
    return most - ours.shortfall(usable.total)


def _without_freest(room: Room, nodes: int) -> Room:
    left: list[tuple[Resources, int]] = []
    for free, count in reversed(room.groups):
        kept = min(nodes, count)
        nodes -= kept
        left.append((free, count - kept))
    return Room.of(left)
