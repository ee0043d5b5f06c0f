"""A queue onto sites: greedy, in order.

Each class takes its cheapest option that has room. It waits instead where waiting for room elsewhere costs less, all things
weighed; then the pool it waits for keeps room for it (`pools.py`). Where an admin lets work wait in the site's own queue, as much
of it goes there first, so that short jobs follow each other without a turn of ours. Room only shrinks while a plan is made, so a
class that finds none, or would rather wait, is left out of the rest of it as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from broker.jobs.model import Choice, Decision, Shape
from broker.placement import reasons
from broker.placement.filters import Objection
from broker.placement.judge import Grounds, Option, grounds, options
from broker.placement.order import ByPriorityAndAge, MakeOrder
from broker.placement.pools import pools_of
from broker.placement.shares import Shares
from broker.placement.view import Passed, Placement, Plan, PlanInput, QueuedClass
from broker.placement.waiting import Wait, absorbed

RUNNERS_UP = 3
LOOKED_AT = 8
"""Options beside the chosen one that are looked at for runners-up."""


@dataclass(slots=True)
class _Candidates:
    """What one class may do, cheapest first, as of one state of the links. Options before `first` have no room left; `waits` has
    what waiting for them means, as of a version of their pool. `decisions` has those made so far, by the option's id: equal jobs
    share one, with waits as of the first of them."""

    shape: Shape
    grounds: Sequence[Grounds]
    remaining: int
    shown: int
    waited_hours: float
    options: list[Option]
    objections: dict[str, tuple[Objection, ...]]
    shares: Shares | None = None
    first: int = 0
    waits: list[tuple[int, Wait]] = field(default_factory=list)
    decisions: dict[int, Decision] = field(default_factory=dict)


def plan(given: PlanInput, make_order: MakeOrder = ByPriorityAndAge) -> Plan:
    """Placements, bookings and reasons for one queue at one moment. The same input always gives the same plan."""
    return _Assignment(given).run(make_order)


class _Assignment:
    """The state of one plan in the making."""

    def __init__(self, given: PlanInput) -> None:
        self._given = given
        self._pools = {view.site.name: pools_of(view, given.now) for view in given.sites}
        self._shares = Shares.of(given.topology, given.bookings)
        self._classes: dict[Shape, _Candidates] = {}
        self._placements: list[Placement] = []
        self._passed: dict[Shape, Passed] = {}
        self._placed = 0

    def run(self, make_order: MakeOrder) -> Plan:
        """Turn by turn until the order ends, or a limit is met."""
        order = make_order(self._given.classes)
        is_cut = False
        while not is_cut and (turn := order.turn()):
            queued, in_a_row = turn
            candidates = self._candidates(queued)
            count = self._place(candidates, min(in_a_row, self._given.most - self._placed))
            if not count:
                order.drop()
                continue
            order.took(count)
            is_cut = self._placed >= self._given.most or 0 == candidates.shown < candidates.remaining
        known = {(booking.dataset, booking.target) for booking in self._given.bookings}
        new = tuple(booking for key, booking in self._shares.bookings.items() if key not in known)
        return Plan(tuple(self._placements), new, self._passed, is_cut)

    def _candidates(self, queued: QueuedClass) -> _Candidates:
        """A class's candidates, renewed when a booking has changed what its transfers would take."""
        shape = queued.shape
        candidates = self._classes.get(shape)
        if candidates is None:
            waited = max(self._given.now - queued.created[0], 0.0) / 3600
            sites = [grounds(shape, view) for view in self._given.sites]
            candidates = _Candidates(shape, sites, queued.count, len(queued.created), waited, [], {})
            self._classes[shape] = candidates
        if candidates.shares is None or (candidates.shares is not self._shares and shape.inputs):
            self._renew(candidates)
        return candidates

    def _renew(self, candidates: _Candidates) -> None:
        given = self._given
        found: list[Option] = []
        candidates.objections = {at.view.site.name: at.objections for at in candidates.grounds if at.objections}
        for at in candidates.grounds:
            if at.objections:
                continue
            site = at.view.site.name
            here = options(candidates.shape, at, self._pools[site], given.topology, self._shares, given.now)
            if isinstance(here, Objection):
                candidates.objections[site] = (here,)
            else:
                found += here
        candidates.options = sorted(found, key=lambda option: (option.weighed, option.name))
        candidates.shares = self._shares
        candidates.first = 0
        candidates.waits, candidates.decisions = [], {}

    def _place(self, candidates: _Candidates, most: int) -> int:
        """Place up to `most` jobs of a class by its best option; 0 when the rest of it waits."""
        shape = candidates.shape
        if not candidates.options:
            self._passed[shape] = reasons.objected(dict(sorted(candidates.objections.items())))
            return 0
        option, room = self._with_room(candidates)
        waiting = self._waits(candidates)
        cap = option.weighed if option else math.inf
        jobs = absorbed(waiting, candidates.remaining, cap)
        count = min(most, room, candidates.remaining - math.ceil(sum(jobs) - 1e-9))
        if option is None or count <= 0:
            count = self._hand_ahead(candidates, waiting, jobs, most)
            if not count:
                self._wait(shape, waiting, jobs, option)
            return count
        self._take(candidates, option, count)
        return count

    def _hand_ahead(self, candidates: _Candidates, waiting: Sequence[Wait], jobs: Sequence[float], most: int) -> int:
        """Place up to `most` of those that would wait at the first site whose own queue takes some; 0 where none does."""
        for wait, wanted in zip(waiting, jobs, strict=True):
            option = wait.option
            count = min(most, candidates.remaining, math.ceil(wanted), option.state.ahead(option.task, option.tasks))
            if count > 0:
                option.state.take_ahead(option.task, option.tasks, count, option.share_hours())
                decision = _decision(candidates, option)
                cost = replace(decision.cost, wait_hours=wait.hours)
                self._record(candidates, option, count, replace(decision, cost=cost))
                return count
        return 0

    def _with_room(self, candidates: _Candidates) -> tuple[Option | None, int]:
        """The cheapest option that has room, and for how many jobs. Of those that cost the same the one with the most room,
        and of its room a fair part, so that equal sites share the load."""
        found = candidates.options
        while candidates.first < len(found) and not found[candidates.first].capacity():
            candidates.first += 1
        equal = takewhile(lambda option: option.weighed == found[candidates.first].weighed, found[candidates.first :])
        rooms = [(room, option) for option in equal if (room := option.capacity())]
        if not rooms:
            return None, 0
        room, option = max(rooms, key=lambda pair: pair[0])
        return option, math.ceil(room / len(rooms))

    def _waits(self, candidates: _Candidates) -> list[Wait]:
        """The options without room, cheapest first with their waits; worked out anew where their pool has changed."""
        known, full = candidates.waits, candidates.options[: candidates.first]
        for index, option in enumerate(full):
            version = option.state.version
            if index == len(known):
                known.append((version, _wait(candidates, option)))
            elif known[index][0] != version:
                known[index] = (version, _wait(candidates, option))
        return sorted((wait for _, wait in known), key=lambda wait: (wait.total, wait.option.name))

    def _wait(self, shape: Shape, waiting: Sequence[Wait], jobs: Sequence[float], here: Option | None) -> None:
        """The rest of a class waits: the pools know, and the best of them keeps room for it."""
        best = waiting[0]
        best.option.state.promise(best.option.task, shape.tasks)
        for wait, count in zip(waiting, jobs, strict=True):
            wait.option.state.queue(count * wait.option.share_hours())
        self._passed[shape] = reasons.waits(shape, best.option, best.hours, here)

    def _take(self, candidates: _Candidates, option: Option, count: int) -> None:
        shape = candidates.shape
        decision = candidates.decisions.get(id(option))
        if decision is None:
            decision = candidates.decisions[id(option)] = _decision(candidates, option)
        option.state.take(option.task, shape.tasks, count, option.busy_hours)
        self._record(candidates, option, count, decision)

    def _record(self, candidates: _Candidates, option: Option, count: int, decision: Decision) -> None:
        """That many jobs are placed."""
        site, pool, bookings = option.view.site.name, option.state.name, option.staging.bookings
        self._placements.append(Placement(candidates.shape, count, site, pool, option.gpu_type, decision, bookings))
        self._placed += count
        candidates.remaining -= count
        candidates.shown -= count
        if option.staging.new:
            self._shares = self._shares.with_bookings(option.staging.new)


def _wait(candidates: _Candidates, option: Option) -> Wait:
    """What a full option costs with its wait, and what each job that waits there adds for the next."""
    weight, hours = candidates.shape.objective.hours, option.wait_hours(candidates.waited_hours)
    return Wait(option, hours, option.weighed + weight * hours, weight * option.share_hours())


def _decision(candidates: _Candidates, chosen: Option) -> Decision:
    """The chosen cost beside the best of the other sites, each with the wait it would mean."""
    others = []
    for option in candidates.options[: LOOKED_AT + 1]:
        if option.view.site.name != chosen.view.site.name:
            cost = replace(option.cost, wait_hours=option.wait_hours(candidates.waited_hours))
            weighed = cost.weighed(candidates.shape.objective)
            others.append((weighed, Choice(option.view.site.name, option.state.name, cost)))
    others.sort(key=lambda other: (other[0], other[1].site, other[1].pool))
    by_site: dict[str, Choice] = {}
    for _, choice in others:
        by_site.setdefault(choice.site, choice)
    return Decision(chosen.cost, tuple(by_site.values())[:RUNNERS_UP], len(candidates.objections))
