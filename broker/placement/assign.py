"""A queue onto sites: greedy, in order.

Each class takes its cheapest option that has room. It waits instead where waiting for room elsewhere costs less, all things
weighed; then the pool it waits for keeps room for it (`pools.py`). Where an admin lets work wait in the site's own queue, as much
of it goes there first, so that short jobs follow each other without a turn of ours. Room only shrinks while a plan is made, so a
class that finds none, or would rather wait, is left out of the rest of it as a whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from broker.jobs.model import Choice, Decision, Shape
from broker.placement import reasons
from broker.placement.fair import ByFairShare
from broker.placement.filters import Objection
from broker.placement.judge import Options
from broker.placement.memory import Memory
from broker.placement.order import MakeOrder
from broker.placement.pools import Floats
from broker.placement.shares import Shares
from broker.placement.staging import NOTHING_MISSING, Staging, Stagings
from broker.placement.view import Passed, Placement, Plan, PlanInput, QueuedClass
from broker.placement.waiting import Waits

RUNNERS_UP = 3
LOOKED_AT = 8
"""Options beside the chosen one that are looked at for runners-up."""


@dataclass(slots=True)
class Choices:
    """What one class may do, as of one state of the links. `weighed` and `busy_hours` are by option, with staging; where inputs
    cannot be brought an option weighs infinitely much. `decisions` has those made so far: equal jobs share one, with waits as
    of the first of them."""

    shape: Shape
    options: Options
    waited_hours: float
    stagings: Stagings | None
    links_version: int
    weighed: Floats
    busy_hours: Floats
    decisions: dict[int, tuple[Decision, Staging]] = field(default_factory=dict)
    chosen: int = -1
    """The option that the next jobs take as well, as long as it has room and `left` is not used up."""
    left: int = 0


@dataclass(slots=True)
class _Class:
    """One class on its way through a plan."""

    choices: Choices
    remaining: int
    shown: int


def plan(given: PlanInput, make_order: MakeOrder = ByFairShare, memory: Memory | None = None) -> Plan:
    """Placements, bookings and reasons for one queue at one moment. The same input always gives the same plan, whatever `memory`
    keeps from earlier ones."""
    return Assignment(given, memory or Memory()).run(make_order)


class Assignment:
    """The state of one plan in the making."""

    def __init__(self, given: PlanInput, memory: Memory) -> None:
        self._given = given
        self.pools, self.judge, self._routes = memory.begin(given)
        self.shares = Shares(self._routes.links, given.bookings)
        self._classes: dict[int, _Class] = {}
        """By the identity of what was queued: to hash a shape costs more than all else in a turn."""
        self._placements: list[Placement] = []
        self._passed: dict[Shape, Passed] = {}
        self._placed = 0
        self._booked: list[Staging] = []

    def run(self, make_order: MakeOrder) -> Plan:
        """Turn by turn until the order ends, or a limit is met."""
        order = make_order(self._given)
        is_cut = False
        while not is_cut and (turn := order.turn()):
            queued, in_a_row = turn
            of_class = self._class(queued)
            count = self._place(of_class, min(in_a_row, self._given.most - self._placed))
            if not count:
                order.drop()
                continue
            order.took(count)
            is_cut = self._placed >= self._given.most or 0 == of_class.shown < of_class.remaining
        new = tuple(booking for staging in self._booked for booking in staging.new)
        return Plan(tuple(self._placements), new, self._passed, is_cut)

    def choices(self, shape: Shape, waited_hours: float) -> Choices:
        """What a class may do as things are now."""
        options, objective = self.judge.options(shape), shape.objective
        if not shape.inputs:
            weighed = np.round(options.weighed, 9)
            return Choices(shape, options, waited_hours, None, self.shares.version, weighed, options.run_hours)
        stagings = Stagings(shape, self._given.topology, self._routes, self.shares, self._given.now)
        hours, money = stagings.hours[options.sites], stagings.money[options.sites]
        weighed = np.round(options.weighed + objective.hours * hours + objective.money * money, 9)
        weighed[~stagings.is_possible[options.sites]] = math.inf
        return Choices(shape, options, waited_hours, stagings, self.shares.version, weighed, options.run_hours + hours)

    def room(self, choices: Choices) -> Floats:
        """How many jobs of a class each of its options would start now."""
        options = choices.options
        room = self.pools.jobs(options.rows, options.places, choices.busy_hours)
        room[np.isinf(choices.weighed)] = 0
        return room

    def waits(self, choices: Choices, room: Floats, cap: float) -> Waits:
        """The options without room that would cost less than `cap` if they had some."""
        full = np.flatnonzero((room == 0) & (choices.weighed < cap))
        options, weight = choices.options, choices.shape.objective.hours
        rows, places, run_hours = options.rows[full], options.places[full], options.run_hours[full]
        hours = self.pools.wait_hours(rows, places, run_hours, choices.waited_hours)
        totals = choices.weighed[full] + weight * hours
        order = np.argsort(totals, kind="stable")
        each = weight * run_hours * self.pools.share(rows, places)
        return Waits(full[order], hours[order], totals[order], each[order])

    def staging(self, choices: Choices, option: int) -> Staging:
        """What is booked for jobs that take it."""
        if choices.stagings is None:
            return NOTHING_MISSING
        return choices.stagings.at(choices.shape, self._given.topology, int(choices.options.sites[option]))

    def objections(self, choices: Choices) -> dict[str, tuple[Objection, ...]]:
        """What speaks against each site that offers no option."""
        against = dict(self.judge.objections(choices.shape))
        for site in np.unique(choices.options.sites[np.isinf(choices.weighed)]):
            if choices.stagings is not None:
                against[self._routes.sites[site]] = (choices.stagings.objection(self._given.topology, int(site)),)
        return dict(sorted(against.items()))

    def site(self, choices: Choices, option: int) -> str:
        """The name of an option's site."""
        return self._routes.sites[int(choices.options.sites[option])]

    def waiting_at(self, choices: Choices, option: int) -> reasons.Full:
        """The option of a class that waits, as reasons tell of it."""
        options = choices.options
        place = int(options.places[option])
        return reasons.Full(
            site=self.site(choices, option),
            pool=self.pools.pools[place].name,
            task=options.tasks[option],
            tasks=choices.shape.tasks,
            fit=self.pools.fit(int(options.rows[option]), place),
            free=self.pools.room(place).total,
        )

    def _class(self, queued: QueuedClass) -> _Class:
        """A class with its choices, renewed when a booking has changed what its transfers would take."""
        found = self._classes.get(id(queued))
        if found is None:
            waited = max(self._given.now - queued.created[0], 0.0) / 3600
            found = _Class(self.choices(queued.shape, waited), queued.count, len(queued.created))
            self._classes[id(queued)] = found
        elif found.choices.stagings and found.choices.links_version != self.shares.version:
            found.choices = self.choices(queued.shape, found.choices.waited_hours)
        return found

    def _place(self, of_class: _Class, most: int) -> int:
        """Place up to `most` jobs of a class by its best option; 0 when the rest of it waits."""
        choices = of_class.choices
        count = self._room_as_before(choices, most)
        if count:
            self._take(of_class, choices.chosen, count)
            return count
        if not np.isfinite(choices.weighed).any():
            self._passed[choices.shape] = reasons.objected(self.objections(choices))
            return 0
        room = self.room(choices)
        option, part, cap = _cheapest(choices, room)
        waits = self.waits(choices, room, cap)
        jobs = waits.absorbed(of_class.remaining, cap)
        rather_wait = math.ceil(float(jobs.sum()) - 1e-9)
        count = min(most, part, of_class.remaining - rather_wait)
        if option < 0 or count <= 0:
            count = self._hand_ahead(of_class, waits, jobs, most)
            if not count:
                self._wait(of_class, waits, jobs, option)
            return count
        choices.chosen, choices.left = option, 0 if rather_wait else part
        self._take(of_class, option, count)
        return count

    def _room_as_before(self, choices: Choices, most: int) -> int:
        """How many jobs may go where the last of their class went. Room only shrinks, and waits only grow: where nothing cheaper
        was worth a wait then, nothing is now."""
        if not choices.left:
            return 0
        options, chosen = choices.options, choices.chosen
        task, place, busy_hours = options.tasks[chosen], int(options.places[chosen]), float(choices.busy_hours[chosen])
        return self.pools.capacity(task, choices.shape.tasks, place, busy_hours, min(most, choices.left))

    def _hand_ahead(self, of_class: _Class, waits: Waits, jobs: Floats, most: int) -> int:
        """Place up to `most` of those that would wait at the first site whose own queue takes some; 0 where none does."""
        choices = of_class.choices
        options, tasks = choices.options, choices.shape.tasks
        for number in np.flatnonzero(self.pools.has_ahead[options.places[waits.options]]):
            option = int(waits.options[number])
            place, task = int(options.places[option]), options.tasks[option]
            count = min(most, of_class.remaining, math.ceil(float(jobs[number])), self.pools.ahead(task, tasks, place))
            if count > 0:
                self.pools.take_ahead(task, tasks, count, place, self._share_hours(choices, option))
                decision, staging = self._decide(choices, option)
                cost = replace(decision.cost, wait_hours=float(waits.hours[number]))
                self._record(of_class, option, count, replace(decision, cost=cost), staging)
                return count
        return 0

    def _share_hours(self, choices: Choices, option: int) -> float:
        one, options = np.array([option]), choices.options
        return float(options.run_hours[option] * self.pools.share(options.rows[one], options.places[one])[0])

    def _wait(self, of_class: _Class, waits: Waits, jobs: Floats, here: int) -> None:
        """The rest of a class waits: the pools know, and the best of them keeps room for it."""
        choices = of_class.choices
        options, best = choices.options, int(waits.options[0])
        self.pools.promise(int(options.rows[best]), int(options.places[best]))
        here_site = self.site(choices, here) if here >= 0 else ""
        self._passed[choices.shape] = reasons.waits(self.waiting_at(choices, best), float(waits.hours[0]), here_site)
        some = np.flatnonzero(jobs)
        chosen = waits.options[some]
        share = self.pools.share(options.rows[chosen], options.places[chosen])
        np.add.at(self.pools.backlog, options.places[chosen], jobs[some] * options.run_hours[chosen] * share)

    def _take(self, of_class: _Class, option: int, count: int) -> None:
        choices = of_class.choices
        decision, staging = self._decide(choices, option)
        options = choices.options
        busy_hours = float(choices.busy_hours[option])
        self.pools.take(options.tasks[option], choices.shape.tasks, count, int(options.places[option]), busy_hours)
        choices.left = max(choices.left - count, 0)
        self._record(of_class, option, count, decision, staging)

    def _record(self, of_class: _Class, option: int, count: int, decision: Decision, staging: Staging) -> None:
        """That many jobs are placed."""
        options, shape = of_class.choices.options, of_class.choices.shape
        site, pool = self.site(of_class.choices, option), self.pools.pools[options.places[option]].name
        gpu_type = options.gpu_types[option]
        self._placements.append(Placement(shape, count, site, pool, gpu_type, decision, staging.bookings))
        self._placed += count
        of_class.remaining -= count
        of_class.shown -= count
        if staging.new:
            self.shares.book(staging.new)
            self._booked.append(staging)

    def _decide(self, choices: Choices, option: int) -> tuple[Decision, Staging]:
        """The chosen cost beside the best of the other sites, each with the wait it would mean."""
        known = choices.decisions.get(option)
        if known is None:
            known = choices.decisions[option] = (self._decision(choices, option), self.staging(choices, option))
        return known

    def _decision(self, choices: Choices, chosen: int) -> Decision:
        options, weight = choices.options, choices.shape.objective.hours
        first = np.argsort(choices.weighed, kind="stable")[: LOOKED_AT + 1]
        first = first[np.isfinite(choices.weighed[first]) & (options.sites[first] != options.sites[chosen])]
        rows, places = options.rows[first], options.places[first]
        is_full = self.pools.jobs(rows, places, choices.busy_hours[first]) == 0
        waits = self.pools.wait_hours(rows, places, options.run_hours[first], choices.waited_hours)
        hours = np.where(is_full, waits, 0.0)
        by_site: dict[str, Choice] = {}
        for number in np.argsort(choices.weighed[first] + weight * hours, kind="stable"):
            option = int(first[number])
            site, pool = self.site(choices, option), self.pools.pools[options.places[option]].name
            if site not in by_site and len(by_site) < RUNNERS_UP:
                by_site[site] = Choice(site, pool, options.cost(option, choices.stagings, float(hours[number])))
        possible = len(np.unique(options.sites[np.isfinite(choices.weighed)]))
        objecting = len(self._routes.sites) - possible
        return Decision(options.cost(chosen, choices.stagings), tuple(by_site.values()), objecting)


def _cheapest(choices: Choices, room: Floats) -> tuple[int, int, float]:
    """The cheapest option that has room, for how many jobs, and what it weighs; -1 for none. Of those that cost the same the one
    with the most room, and of its room a fair part, so that equal sites share the load."""
    with_room = np.flatnonzero(room)
    if not with_room.size:
        return -1, 0, math.inf
    least = float(choices.weighed[with_room].min())
    equal = with_room[choices.weighed[with_room] == least]
    most = equal[room[equal].argmax()]
    return int(most), math.ceil(room[most] / len(equal)), least
