"""How many jobs of each class each group of sites is to plan: a rough plan of the whole, by sums and in parts of jobs.

Classes take turns, those of higher priority first, and fill their cheapest pools with room; what finds none waits where it could
run, by what those sites have in all. Costs are as in a plan, but for the staging: that is reckoned over what links are declared
to carry, since what is free on them is for the plans of the groups to divide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from broker.jobs.model import Shape
from broker.placement.arrays import Floats, Places
from broker.placement.grouping import Groups
from broker.placement.judge import Judge, Options
from broker.placement.pools import Pools
from broker.placement.reassign import MOST_OPTIONS, Rows
from broker.placement.view import PlanInput, QueuedClass
from topology.dataset import DatasetId
from topology.link import GIB
from topology.resources import EPSILON, MOST_TIMES

TURNS = 8
"""Each class fills room in so many turns: so none of one priority takes all that is cheap."""


@dataclass(slots=True)
class _Class:
    """One class, with its options by rising cost: their pools, groups, what a job takes there, and what it weighs."""

    jobs: int
    each_turn: int
    places: Places
    groups: Places
    needs: Floats
    weighed: Floats
    amounts: Floats
    """Jobs that have room, by option."""
    rest: Floats
    """Those that have none, by group."""
    is_done: bool = False

    @property
    def left(self) -> int:
        """How many are not dealt out, rounded."""
        return self.jobs - round(float(self.amounts.sum()))

    @property
    def by_group(self) -> Floats:
        """All of its jobs, in parts of jobs."""
        return np.bincount(self.groups, self.amounts, len(self.rest)) + self.rest

    def fill(self, free: Floats) -> None:
        """Take a turn: room goes from `free`, by pool and resource. Options that cost the same share it by their room."""
        wanted = min(self.each_turn, self.left)
        room = jobs_by_sums(free[self.places], self.needs)
        total = np.cumsum(room)
        if not wanted or not len(total) or not total[-1]:
            self.is_done = True
            return
        if total[-1] > wanted:
            level = self.weighed[np.searchsorted(total, wanted)]
            first, last = np.searchsorted(self.weighed, level), np.searchsorted(self.weighed, level, "right")
            before = total[first - 1] if first else 0.0
            room[first:last] *= (wanted - before) / (total[last - 1] - before)
            room[last:] = 0.0
        taken = np.flatnonzero(room)
        np.subtract.at(free, self.places[taken], room[taken, None] * self.needs[taken])
        self.amounts += room

    def wait(self, wholes: Floats) -> None:
        """Deal out the rest, by what the pools it can run in have in all."""
        room = jobs_by_sums(wholes[self.places], self.needs)
        by_group = np.bincount(self.groups, room if room.any() else None, len(self.rest)).astype(float)
        if by_group.any():
            self.rest = by_group / by_group.sum() * (self.jobs - self.amounts.sum())


def sketched(given: PlanInput, groups: Groups, pools: Pools, judge: Judge) -> Mapping[Shape, Places]:
    """How many of the jobs that are shown of each class each group plans. A class that no site can run is left out."""
    bringing = _Bringing(given, groups)
    queue = sorted(given.classes, key=lambda queued: (-queued.shape.priority, queued.created[0], repr(queued.shape)))
    free, wholes = pools.totals(), pools.wholes()
    found = {queued.shape: _class(queued, judge.options(queued.shape), groups, pools, bringing) for queued in queue}
    for _, same in groupby(found.items(), lambda each: each[0].priority):
        equal = [of_class for _, of_class in same]
        before, filling = free.copy(), equal
        while filling:
            for of_class in filling:
                of_class.fill(free)
            filling = [of_class for of_class in filling if not of_class.is_done]
        _deal_anew([each for each in equal if each.amounts.any()], before)
    for of_class in found.values():
        of_class.wait(wholes)
    return {shape: in_whole(of_class.by_group, of_class.jobs) for shape, of_class in found.items() if len(of_class.places)}


def _deal_anew(classes: Sequence[_Class], room: Floats) -> None:
    """Deal out the jobs that have room so that all of them together cost the least, by a linear programme."""
    options = [_cheapest_and_taken(each, room) for each in classes]
    owner = np.repeat(np.arange(len(classes)), [len(each) for each in options])
    pairs = list(zip(classes, options, strict=True))
    if not pairs:
        return
    places = np.concatenate([each.places[some] for each, some in pairs])
    rows = Rows(len(owner))
    jobs = np.array([[each.amounts.sum()] for each in classes])
    rows.add(owner, np.ones((len(owner), 1)), jobs, jobs)
    rows.add(places, np.concatenate([each.needs[some] for each, some in pairs]), np.full_like(room, -np.inf), room + EPSILON)
    cost = np.concatenate([each.weighed[some] for each, some in pairs])
    solution = rows.minimise(cost, np.full(len(owner), np.inf))
    if solution is not None:
        for (each, some), amounts in zip(pairs, np.split(solution, np.cumsum([len(each) for each in options])[:-1]), strict=True):
            each.amounts = np.zeros(len(each.places))
            each.amounts[some] = amounts


def _cheapest_and_taken(of_class: _Class, room: Floats) -> Places:
    has_room = np.flatnonzero(jobs_by_sums(room[of_class.places], of_class.needs))[:MOST_OPTIONS]
    found: Places = np.union1d(has_room, np.flatnonzero(of_class.amounts))
    return found


def in_whole(amounts: Floats, total: int) -> Places:
    """Amounts rounded to whole numbers that add up to `total`, by largest remainders; nothing of it goes where the amount is 0
    unless all are."""
    if not amounts.any():
        amounts = np.eye(len(amounts))[0]
    amounts = amounts * (total / amounts.sum())
    found: Places = np.floor(amounts + EPSILON).astype(np.intp)
    short = total - int(found.sum())
    found[np.argsort(found - amounts, kind="stable")[:short]] += 1
    return found


class _Bringing:
    """What bringing inputs to each site weighs, at the least."""

    def __init__(self, given: PlanInput, groups: Groups) -> None:
        self._topology, self._groups = given.topology, groups
        self._places = {site: place for place, site in enumerate(groups.sites)}
        self._coming: dict[DatasetId, list[str]] = {}
        for booking in given.bookings:
            self._coming.setdefault(booking.dataset, []).append(booking.target)

    def weighed(self, shape: Shape) -> Floats:
        """By site; infinite where an input cannot be brought."""
        objective, count = shape.objective, len(self._groups.sites)
        hours, money = np.zeros(count), np.zeros(count)
        for dataset in shape.inputs:
            known = self._topology.datasets.get(dataset)
            gib = (known.size_bytes if known and known.size_bytes is not None else GIB) / GIB
            sources = [place for site in self._topology.replica_sites(dataset) if (place := self._places.get(site)) is not None]
            here = [self._places[site] for site in self._coming.get(dataset, ()) if site in self._places]
            hours = np.maximum(hours, _from(sources, self._groups.hours, gib, here))
            money = money + _from(sources, self._groups.money, gib, here)
            if known and known.regions:
                may = [known.may_enter(self._topology.sites[site].region) for site in self._groups.sites]
                hours[np.setdiff1d(np.flatnonzero(~np.array(may)), [*sources, *here])] = np.inf
        reached = np.isfinite(hours)
        weighed = objective.hours * np.where(reached, hours, 0.0) + objective.money * np.where(reached, money, 0.0)
        return np.where(reached, weighed, np.inf)


def _from(sources: list[int], ways: Floats, gib: float, here: list[int]) -> Floats:
    """What so much takes from the best of the sources to each site; nothing where it is on its way."""
    least: Floats = gib * ways[sources].min(axis=0, initial=np.inf)
    least[here] = 0.0
    return least


def _class(queued: QueuedClass, options: Options, groups: Groups, pools: Pools, bringing: _Bringing) -> _Class:
    """One that no group can bring the inputs of is dealt out as if it had none: plans then say why it waits."""
    shape, jobs = queued.shape, len(queued.created)
    weighed = options.weighed
    if shape.inputs:
        brought = weighed + bringing.weighed(shape)[options.sites]
        weighed = brought if np.isfinite(brought).any() else weighed
    weighed = np.round(weighed, 9)
    order = np.argsort(weighed, kind="stable")
    order = order[np.isfinite(weighed[order])]
    sites, needs = options.sites[order], pools.needs(options.rows[order])
    places, groups_of = options.places[order], groups.of[sites]
    nothing, each_turn = np.zeros(len(order)), math.ceil(jobs / TURNS)
    return _Class(jobs, each_turn, places, groups_of, needs, weighed[order], nothing, np.zeros(len(groups)))


def jobs_by_sums(room: Floats, needs: Floats) -> Floats:
    """How many whole jobs fit by sums: one number for each pair of rows."""
    times: Floats = np.where(needs > EPSILON, (room + EPSILON) / np.where(needs > EPSILON, needs, 1.0), MOST_TIMES).min(axis=1)
    return np.floor(np.clip(times, 0.0, MOST_TIMES))
