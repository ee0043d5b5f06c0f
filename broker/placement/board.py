"""The state of one plan in the making: what classes may do, and what was placed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from broker.jobs.model import Choice, Decision, Shape
from broker.placement import reasons
from broker.placement.arrays import Flags, Floats, Places
from broker.placement.companions import Companions
from broker.placement.filters import Objection, is_too_dear
from broker.placement.judge import Options
from broker.placement.memory import Memory
from broker.placement.quotas import Allowance, Quotas
from broker.placement.readers import Readers
from broker.placement.shares import Shares
from broker.placement.staging import NOTHING_MISSING, Staging, Stagings
from broker.placement.view import Awaited, Placement, PlanInput
from broker.placement.waiting import Waits
from broker.records import Booking
from topology.dataset import DatasetId
from topology.resources import Resources

CAUTION = 4.0
"""What an hour of waiting weighs, in hours, where others wait already: who comes later may go before. Chosen by simulations of
recorded and generated work, in which 1 costs 0.2 to 3 % more."""
RUNNERS_UP = 3
ROUNDING = 1e-9
"""By so large a part of it may a limit be exceeded: what is lost in sums."""
LOOKED_AT = 8
"""Options beside the chosen one that are looked at for runners-up."""


@dataclass(slots=True)
class Choices:
    """What one class may do, as of one state of the links. `weighed` and `busy_hours` are by option, with staging; where inputs
    cannot be brought, or a job would cost more than it may, an option weighs infinitely much. `egress_money` is what each job
    counts for transfers, by option, and part of `weighed`. `decisions` has those made so far: equal jobs share one, with waits as
    of the first of them."""

    shape: Shape
    options: Options
    waited_hours: float
    stagings: Stagings | None
    links_version: int
    weighed: Floats
    busy_hours: Floats
    egress_money: Floats
    decisions: dict[int, tuple[Decision, Staging]] = field(default_factory=dict)
    looked_at: tuple[Places, int] | None = None
    """What decisions look at beside the chosen option: see `_looked_at`."""
    is_by_hours: bool = False
    """Whether `weighed` are plain hours, whatever the class strives for."""

    @property
    def left_hours(self) -> float:
        """Until the deadline of the class's oldest job; infinite without one."""
        deadline_s = self.shape.deadline_s
        return math.inf if deadline_s is None else deadline_s / 3600 - self.waited_hours

    @property
    def hour_weighs(self) -> float:
        """As much as one hour counts in `weighed`."""
        return 1.0 if self.is_by_hours else self.shape.objective.hours

    def weighed_among(self, jobs: int) -> Floats:
        """What each of so many jobs weighs by option, if it were they alone that go there and share what is brought."""
        if self.stagings is None:
            return self.weighed
        shared = self.stagings.money[self.options.sites] / max(jobs, 1)
        weighed: Floats = self.weighed + self.shape.objective.money * (shared - self.egress_money)
        return weighed


class Board:
    """Begins with the world as given; `take` and `hand_ahead` place jobs on it."""

    def __init__(self, given: PlanInput, memory: Memory) -> None:
        self.given = given
        self.pools, self.judge, self._routes = memory.begin(given)
        self.shares = Shares(self._routes.links, given.bookings)
        self.quotas = Quotas(given)
        self.companions = Companions(given.groups)
        self._readers = Readers(given.classes, self.judge)
        self._stagings: dict[tuple[tuple[DatasetId, ...], float, float], tuple[int, Stagings]] = {}
        """With the state of the links that each is as of."""
        self.placements: list[Placement] = []
        self.takers: list[tuple[Choices, int]] = []
        """For each placement the choices and the option that it took."""
        self.bookings: list[Booking] = []
        """Those that the placements make."""

    def choices(self, shape: Shape, waited_hours: float) -> Choices:
        """What a class may do as things are now.

        Each job waits for all of a transfer, and counts a part of its money: that over the jobs that share it. Those are the
        queued readers of the dataset that may run at the site, of every class whose priority is not lower, less those who could
        start where nothing need be paid for; and no more than could start there. Starts count that are possible at once or in
        the time that the transfer and one run take, in jobs of this class's size. Who is placed first still pays for it alone,
        and for the next it costs nothing more.
        """
        options, objective, version = self.judge.options(shape), shape.objective, self.shares.version
        if not shape.inputs:
            weighed, nothing = np.round(options.weighed, 9), np.zeros(len(options))
            weighed[_too_dear(shape, options, None)] = math.inf
            return Choices(shape, options, waited_hours, None, version, weighed, options.run_hours, nothing)
        stagings = self._staging_of(shape)
        hours = stagings.hours[options.sites]
        egress = self._egress_money(shape, options, stagings)
        weighed = np.round(options.weighed + objective.hours * hours + objective.money * egress, 9)
        weighed[~stagings.is_possible[options.sites] | _too_dear(shape, options, stagings)] = math.inf
        return Choices(shape, options, waited_hours, stagings, version, weighed, options.run_hours + hours, egress)

    def renewed(self, choices: Choices) -> Choices:
        """The same, or made anew where a booking has changed what its transfers would take."""
        if choices.stagings is None or choices.links_version == self.shares.version:
            return choices
        return self.choices(choices.shape, choices.waited_hours)

    def recounted(self, choices: Choices) -> Choices:
        """The same, or made anew where it counts transfers' money: fewer share it once others are placed."""
        return self.choices(choices.shape, choices.waited_hours) if choices.egress_money.any() else choices

    def room(self, choices: Choices) -> Floats:
        """How many jobs of a class each of its options would start now, whatever quotas say."""
        options = choices.options
        room = self.pools.jobs(options.rows, options.places, choices.busy_hours)
        room[np.isinf(choices.weighed)] = 0
        return room

    def allowance(self, choices: Choices) -> Allowance | None:
        """What quotas let a class have; None where none says anything."""
        if choices.shape.tenant not in self.quotas:
            return None
        sites = [self._routes.sites[site] for site in choices.options.sites]
        return self.quotas.allowance(choices.shape, sites, choices.options.tasks)

    @property
    def sites(self) -> Sequence[str]:
        """All sites, in their order."""
        return self._routes.sites

    def is_ever_open(self, choices: Choices, site: str) -> bool:
        """Whether a site takes a class, or will once something has passed; not where no site has that name."""
        if site not in self._routes.sites:
            return False
        place = self._routes.sites.index(site)
        weighed = choices.weighed[choices.options.sites == place]
        if not len(weighed):
            return self.judge.is_ever_open(choices.shape, place)
        return bool(np.isfinite(weighed).any()) or not self._objection(choices, place).kind.is_lasting

    def room_at(self, choices: Choices, option: int, most: int) -> int:
        """How many jobs of a class one of its options would start now, up to `most`; whatever quotas say."""
        options, busy_hours = choices.options, float(choices.busy_hours[option])
        return self.pools.capacity(options.tasks[option], choices.shape.tasks, int(options.places[option]), busy_hours, most)

    def waits(self, choices: Choices, room: Floats, cap: float, allowed: Floats | None = None) -> Waits:
        """The options without room that would cost less than `cap` if they had some, and that quotas allow some jobs."""
        is_open = (room == 0) & (choices.weighed < cap)
        full = np.flatnonzero(is_open if allowed is None else is_open & (allowed > 0))
        options, weight = choices.options, choices.hour_weighs
        rows, places, run_hours = options.rows[full], options.places[full], options.run_hours[full]
        hours = self.pools.wait_hours(rows, places, run_hours, choices.waited_hours)
        doubts = np.where(self.pools.backlog[places] > 0, (CAUTION - 1) * hours + choices.waited_hours, 0.0)
        totals = choices.weighed[full] + weight * (hours + doubts)
        order = np.argsort(totals, kind="stable")
        each = weight * run_hours * self.pools.share(rows, places)
        return Waits(full[order], hours[order], totals[order], each[order])

    def staging(self, choices: Choices, option: int) -> Staging:
        """What is booked for jobs that take it."""
        if choices.stagings is None:
            return NOTHING_MISSING
        return choices.stagings.at(choices.shape, self.given.topology, int(choices.options.sites[option]))

    def objections(self, choices: Choices) -> dict[str, tuple[Objection, ...]]:
        """What speaks against each site that offers no option, or none just now."""
        against = dict(self.judge.objections(choices.shape))
        if choices.shape.sites.words:
            for site in set(self._routes.sites) - set(against):
                objection = self.companions.objection(choices.shape, site)
                against.update({site: (objection,)} if objection else {})
        sites, is_possible = choices.options.sites, np.isfinite(choices.weighed)
        for site in np.setdiff1d(sites, sites[is_possible]):
            name = self._routes.sites[site]
            against[name] = (*against.get(name, ()), self._objection(choices, int(site)))
        return dict(sorted(against.items()))

    def _objection(self, choices: Choices, site: int) -> Objection:
        """Why a class has no option at a site that could run it: its inputs cannot be brought, or else it costs too much."""
        stagings, shape, options = choices.stagings, choices.shape, choices.options
        if stagings is not None and not stagings.is_possible[site]:
            return stagings.objection(self.given.topology, site)
        least = min(options.cost(int(option), stagings).money for option in np.flatnonzero(options.sites == site))
        return is_too_dear(shape.max_cost or 0.0, least, self.judge.views[site].site.price.currency)

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

    def awaited(self) -> tuple[Awaited, ...]:
        """The pools that something waits for by now."""
        pools, promises = self.pools, self.pools.promises
        places = np.flatnonzero((pools.backlog > 0) | np.isfinite(promises.hours))
        return tuple(
            Awaited(
                self._routes.sites[pools.sites[place]],
                pools.pools[place].name,
                float(pools.backlog[place]),
                float(promises.hours[place]),
                pools.amount(promises.spare[place]) if math.isfinite(promises.hours[place]) else Resources(),
            )
            for place in places
        )

    def stand_behind(self, awaited: Iterable[Awaited]) -> None:
        """What is asked of next comes after all that waits for these pools; those that are not there any more do not count."""
        pools, promises = self.pools, self.pools.promises
        pairs = zip(pools.sites, pools.pools, strict=True)
        places = {(self._routes.sites[site], pool.name): place for place, (site, pool) in enumerate(pairs)}
        for each in awaited:
            place = places.get((each.site, each.pool))
            if place is not None:
                pools.backlog[place] = each.backlog_hours
                promises.hours[place], promises.spare[place] = each.promised_hours, pools.vector(each.spare)
        pools.keep(promises)

    def take(self, choices: Choices, option: int, count: int) -> None:
        """That many jobs go there now. Raises ValueError for more than `room` said."""
        decision, staging = self._decide(choices, option)
        options, busy_hours = choices.options, float(choices.busy_hours[option])
        self.pools.take(options.tasks[option], choices.shape.tasks, count, int(options.places[option]), busy_hours)
        self._record(choices, option, count, decision, staging)

    def ahead(self, choices: Choices, option: int) -> int:
        """How many may wait for it in the site's own queue."""
        return self.pools.ahead(choices.options.tasks[option], choices.shape.tasks, int(choices.options.places[option]))

    def hand_ahead(self, choices: Choices, option: int, count: int, wait_hours: float) -> None:
        """That many jobs go there to wait in the site's own queue."""
        options, one = choices.options, np.array([option])
        share_hours = float(options.run_hours[option] * self.pools.share(options.rows[one], options.places[one])[0])
        task, place = options.tasks[option], int(options.places[option])
        self.pools.take_ahead(task, choices.shape.tasks, count, place, share_hours)
        decision, staging = self._decide(choices, option)
        waiting = replace(decision, cost=replace(decision.cost, wait_hours=wait_hours))
        self._record(choices, option, count, waiting, staging)

    def repeat(self, placements: Sequence[Placement], choices: Choices, option: int, *, is_ahead: bool) -> bool:
        """Place what another board of the same world placed by one option, as it was, with the bookings that it made. Whether
        there was room: nodes may be packed otherwise here."""
        if not is_ahead:
            task, place = choices.options.tasks[option], int(choices.options.places[option])
            count = sum(placement.count for placement in placements)
            if self.pools.capacity(task, choices.shape.tasks, place, 0.0, count) < count:
                return False
            self.pools.take(task, choices.shape.tasks, count, place, 0.0)
        self.placements += placements
        self.takers += [(choices, option)] * len(placements)
        for placement in placements:
            self._count(choices, option, placement.count)
            self._readers.placed(placement.shape, placement.count)
            self._book(placement.bookings)
        return True

    def _staging_of(self, shape: Shape) -> Stagings:
        """The same for all classes of the same inputs and weights."""
        key = (shape.inputs, shape.objective.hours, shape.objective.money)
        found = self._stagings.get(key)
        if found is None or found[0] != self.shares.version:
            made = Stagings(shape, self.given.topology, self._routes, self.shares, self.given.now)
            found = self._stagings[key] = (self.shares.version, made)
        return found[1]

    def _egress_money(self, shape: Shape, options: Options, stagings: Stagings) -> Floats:
        """By option, what each job counts for what is brought there."""
        money = stagings.money[options.sites] if shape.objective.money else np.zeros(len(options))
        dear = np.flatnonzero(money)
        if not dear.size:
            return money
        sites, horizon = options.sites[dear], stagings.hours[options.sites] + options.run_hours
        room = self.pools.jobs_within(options.rows[dear], options.places[dear], horizon[dear])
        free = np.flatnonzero((money == 0) & stagings.is_possible[options.sites])
        soonest = np.full(len(free), horizon[dear].min())
        elsewhere = self.pools.jobs_within(options.rows[free], options.places[free], soonest).sum()
        money[dear] = 0.0
        for dataset, each in stagings.priced():
            sharing = np.minimum(self._readers.at_least(dataset, shape.priority)[sites] - elsewhere, room)
            money[dear] += each[sites] / np.maximum(sharing, 1)
        return money

    def _record(self, choices: Choices, option: int, count: int, decision: Decision, staging: Staging) -> None:
        options = choices.options
        pool, gpu_type = self.pools.pools[options.places[option]].name, options.gpu_types[option]
        site, bookings = self.site(choices, option), staging.bookings
        self._count(choices, option, count)
        self.placements.append(Placement(choices.shape, count, site, pool, gpu_type, decision, bookings))
        self._readers.placed(choices.shape, count)
        self.takers.append((choices, option))
        self._book(staging.new)

    def _count(self, choices: Choices, option: int, count: int) -> None:
        """The tenant holds so much more, and so many more of its jobs are there."""
        shape, site = choices.shape, self.site(choices, option)
        whole = choices.options.tasks[option] * (shape.tasks * count)
        self.quotas.add(shape.tenant, site, whole, is_firm=not shape.preemptible)
        self.companions.placed(shape, site, count)

    def _book(self, bookings: Iterable[Booking]) -> None:
        new = [booking for booking in bookings if booking.target not in self.shares.coming(booking.dataset)]
        self.shares.book(new)
        self.bookings += new

    def _decide(self, choices: Choices, option: int) -> tuple[Decision, Staging]:
        """The chosen cost beside the best of the other sites, each with the wait it would mean."""
        known = choices.decisions.get(option)
        if known is None:
            known = choices.decisions[option] = (self._decision(choices, option), self.staging(choices, option))
        return known

    def _decision(self, choices: Choices, chosen: int) -> Decision:
        options, weight = choices.options, choices.shape.objective.hours
        if choices.looked_at is None:
            choices.looked_at = _looked_at(choices)
        first, possible = choices.looked_at
        first = first[options.sites[first] != options.sites[chosen]]
        rows, places = options.rows[first], options.places[first]
        hours, full = np.zeros(len(first)), np.flatnonzero(self.pools.jobs(rows, places, choices.busy_hours[first]) == 0)
        hours[full] = self.pools.wait_hours(rows[full], places[full], options.run_hours[first[full]], choices.waited_hours)
        by_site: dict[str, Choice] = {}
        for number in np.argsort(choices.weighed[first] + weight * hours, kind="stable"):
            option = int(first[number])
            site, pool = self.site(choices, option), self.pools.pools[options.places[option]].name
            if site not in by_site:
                by_site[site] = Choice(site, pool, options.cost(option, choices.stagings, float(hours[number])))
                if len(by_site) == RUNNERS_UP:
                    break
        objecting = len(self._routes.sites) - possible
        return Decision(options.cost(chosen, choices.stagings), tuple(by_site.values()), objecting)


def _too_dear(shape: Shape, options: Options, stagings: Stagings | None) -> Flags:
    """The options where one job that goes alone, and pays for all that is brought, costs more than it may."""
    if shape.max_cost is None:
        return np.zeros(len(options), dtype=bool)
    money = options.compute_money if stagings is None else options.compute_money + stagings.money[options.sites]
    found: Flags = money > shape.max_cost * (1 + ROUNDING)
    return found


def _looked_at(choices: Choices) -> tuple[Places, int]:
    """The options of a class that runners-up are taken from, the cheapest first, and how many sites offer it any."""
    possible = np.flatnonzero(np.isfinite(choices.weighed))
    first = possible[np.argsort(choices.weighed[possible], kind="stable")[: LOOKED_AT + 1]]
    of_sites = choices.options.sites[possible]
    return first, int(np.count_nonzero(np.diff(of_sites, prepend=-1)))


def cheapest(choices: Choices, room: Floats) -> tuple[int, int, float]:
    """The cheapest option that has room, for how many jobs, and what it weighs; -1 for none. Of those that cost the same the one
    with the most room, and of its room a fair part, so that equal sites share the load."""
    with_room = np.flatnonzero(room)
    if not with_room.size:
        return -1, 0, math.inf
    least = float(choices.weighed[with_room].min())
    equal = with_room[choices.weighed[with_room] == least]
    most = equal[room[equal].argmax()]
    return int(most), math.ceil(room[most] / len(equal)), least
