"""The least that a whole simulation can weigh, whoever decides: a lower bound from a linear programme with time in it.

The programme starts jobs of each class and time of arrival in pools, at a few times each; a pool's cpus, memory and GPUs are
enough, by sums, in each slot of time. Its dual is a price for an hour of each resource of each pool in each slot. Any prices
that are not negative prove a bound, however they were found, for simulations in which every job ends:

    bound = sum over jobs of the least it can weigh if it also pays these prices - what all pools earn that are always full

Why: what runs at a moment in a pool never holds more than the pool has then (nodes and sites that are lost hold nothing), so
that under any policy the jobs together pay no more than full pools earn; and each of them, what it weighs and what it pays
together, comes to no less than its own least. So the first sum is above what the jobs weigh by no more than what is taken off
(weak duality).

A job weighs its completion from its arrival, its real run time at the pool's speed without a break, started at the best moment
for these prices, and the money and carbon of that run, where hard rules allow it. Simplified, always downwards: nobody's turn
comes before another's, nothing that runs is lost, no maintenance, no turns of plans; each site's lowest carbon intensity; gangs
and tasks fit by sums. Data that a site has not from the beginning cannot be there before the first job that reads it has come
and the site's widest link has carried it. Each of the n jobs that read it pays an n-th of its egress over the site's cheapest
link, by the least weight of money among them: whoever runs there, one of them pays all of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import highspy
import numpy as np

from adapters.kinds import takes
from broker.jobs.model import Shape
from broker.placement.judge import Judge
from broker.placement.pools import Floats, Places, Pools
from broker.placement.reassign import Quiet
from broker.placement.routes import HOURS_AT_ONE_GBPS
from broker.placement.view import SiteView
from broker.records import Health
from broker.simulator.scenario import Arrival, Bandwidth, Carbon, NodesLost, Scenario, SiteLost
from topology.dataset import DatasetId
from topology.link import GIB
from topology.resources import EPSILON
from topology.site import Site

SLOTS = 12
"""Of equal length, in which prices may differ."""
ROUNDS = 20
"""The programme is solved so often at most, each time with the starts that the last prices make look best."""
STARTS = 3
"""Of a group of jobs, that are added in a round."""
CLOSE = 0.002
"""The part of it by which the programme's best is known well enough."""


@dataclass(frozen=True, slots=True)
class Bound:
    """No policy under which all jobs end comes below `mean_weighed` (`Figures.mean_weighed`) over `jobs` jobs."""

    mean_weighed: float
    jobs: int


@dataclass(frozen=True, slots=True)
class _Class:
    """Jobs that differ only in when they come and how long they run. By way to run: the pool, its speed, what a whole job holds
    of each resource, hours (from the beginning) before which its data cannot be there, and what it weighs for an hour of run time
    at speed 1, and once. `hours` is the weight of one."""

    hours: float
    places: Places
    speeds: Floats
    needs: Floats
    since: Floats
    per_hour: Floats
    once: Floats


@dataclass(frozen=True, slots=True)
class _Jobs:
    """Some of one class: arrivals and run times at speed 1 in hours, and how many each of them stands for."""

    of: _Class
    at: Floats
    work: Floats
    count: Floats


@dataclass(frozen=True, slots=True)
class _Prices:
    """Of an hour of each resource: `per_hour` by pool, resource and slot; free after the last slot. `capacity` is what is there
    in the mean over each slot."""

    slot_hours: float
    per_hour: Floats
    capacity: Floats

    @property
    def earned(self) -> float:
        """By pools that are always full."""
        return float((self.per_hour * self.capacity).sum()) * self.slot_hours

    def paid(self, of: _Class) -> Floats:
        """By a job of a class that runs from the beginning to the end of each slot: by way to run and end."""
        rates = (self.per_hour[of.places] * of.needs[:, :, None]).sum(axis=1)
        return np.concatenate([np.zeros((len(rates), 1)), np.cumsum(rates, axis=1) * self.slot_hours], axis=1)


def bound_of(scenario: Scenario) -> Bound:
    """See the module; of jobs that no site could ever run nothing is asked. Raises ValueError where none is left."""
    jobs = _jobs(scenario)
    if not jobs:
        raise ValueError("no job can run anywhere")
    number = sum(len(each.at) for each in jobs)
    prices = _prices(jobs, scenario)
    free = replace(prices, per_hour=prices.per_hour * 0)
    return Bound(max(_proven(jobs, prices), _proven(jobs, free)) / number, number)


def _proven(jobs: Sequence[_Jobs], prices: _Prices) -> float:
    """What these prices prove."""
    return sum(float(_least(some, prices)[0].min(axis=1) @ some.count) for some in jobs) - prices.earned


def _least(jobs: _Jobs, prices: _Prices) -> tuple[Floats, Floats]:
    """What each job weighs at the least, with what it pays, by way to run; and when it would start. What it pays rises and falls
    linearly between the moments at which its start or its end is where a slot ends: so one of these, or the first, is best.
    (The first is among them: the beginning is where a slot ends.)"""
    of, edges = jobs.of, np.arange(prices.per_hour.shape[2] + 1) * prices.slot_hours
    first = np.maximum(jobs.at[:, None], of.since)
    run = jobs.work[:, None] / of.speeds
    paid = prices.paid(of)
    at_edges = np.broadcast_to(edges, (*first.shape, len(edges)))
    starts = np.maximum(np.concatenate([at_edges, edges - run[:, :, None]], axis=2), first[:, :, None])
    total = of.hours * (starts - jobs.at[:, None, None]) + _until(paid, starts + run[:, :, None], prices.slot_hours)
    total -= _until(paid, starts, prices.slot_hours)
    best = total.argmin(axis=2)[:, :, None]
    fixed = of.once + jobs.work[:, None] * of.per_hour
    return np.take_along_axis(total, best, 2)[:, :, 0] + fixed, np.take_along_axis(starts, best, 2)[:, :, 0]


def _until(paid: Floats, when: Floats, slot_hours: float) -> Floats:
    """What is paid by these moments, between the ends of slots."""
    last = paid.shape[1] - 1
    position = np.minimum(when / slot_hours, last)
    slot = np.minimum(position.astype(np.intp), last - 1)
    rows = np.arange(len(paid))[:, None]
    begun = paid[rows, slot]
    found: Floats = begun + (paid[rows, slot + 1] - begun) * (position - slot)
    return found


def _prices(jobs: Sequence[_Jobs], scenario: Scenario) -> _Prices:
    """Of the linear programme, by generation of columns: those that prove the most of all that were met."""
    pools = Pools(list(scenario.topology.sites.values()))
    whole = np.array([pools.vector(pool.per_node) * pool.nodes for pool in pools.pools])
    slot_hours = _span(jobs, whole) / SLOTS
    groups = [_grouped(some, slot_hours) for some in jobs]
    capacity = whole[:, :, None] * _there(scenario, slot_hours)[:, None, :]
    prices = best = _Prices(slot_hours, np.zeros(capacity.shape), capacity)
    programme, most = _Programme(groups, prices), -math.inf
    for _ in range(ROUNDS):
        proven = programme.add(prices)
        if proven > most:
            most, best = proven, prices
        value, found = programme.solve()
        if value - most <= CLOSE * abs(value):
            break
        prices = replace(best, per_hour=(best.per_hour + found) / 2)
    return best


def _span(jobs: Sequence[_Jobs], capacity: Floats) -> float:
    """Hours in which there may be a price: about until the last job ends, and longer where more is asked for than there is."""
    last = max(float(some.at.max()) for some in jobs)
    runs = np.array([some.work.sum() / some.of.speeds.mean() for some in jobs])
    asked = (runs[:, None] * np.array([some.of.needs.min(axis=0) for some in jobs])).sum(axis=0)
    mean = float(runs.sum()) / sum(len(some.at) for some in jobs)
    whole = float((asked / np.maximum(capacity.sum(axis=0), EPSILON)).max())
    return max(1.2 * last + 2 * mean, 1.3 * whole)


def _grouped(jobs: _Jobs, slot_hours: float) -> _Jobs:
    """A job in the mean for those that come in one slot."""
    slots, group, count = np.unique((jobs.at / slot_hours).astype(int), return_inverse=True, return_counts=True)
    at, work = (np.bincount(group, each, len(slots)) / count for each in (jobs.at, jobs.work))
    return _Jobs(jobs.of, at, work, count.astype(float))


class _Programme:
    """Groups of jobs, starts of them so far, and pools by slot: how many jobs of a group start where and when."""

    def __init__(self, groups: Sequence[_Jobs], free: _Prices) -> None:
        self._groups, self._free = groups, free
        self._slots = free.per_hour.shape[2]
        counts = np.concatenate([group.count for group in groups])
        room = free.capacity.ravel() * free.slot_hours
        self._first_room = len(counts)
        self._solver = Quiet()
        self._solver.setOptionValue("threads", 1)
        problem = highspy.HighsLp()
        problem.num_row_ = len(counts) + len(room)
        problem.row_lower_ = np.concatenate([counts, np.full(len(room), -math.inf)])
        problem.row_upper_ = np.concatenate([counts, room])
        problem.a_matrix_.start_ = np.zeros(1, dtype=np.int32)
        self._solver.passModel(problem)
        edges = np.arange(self._slots + 1) * free.slot_hours
        row = 0
        for group in groups:  # after the last slot there is room for all
            weighed = group.work[:, None] * (group.of.per_hour + group.of.hours / group.of.speeds) + group.of.once
            ways = np.repeat(weighed.argmin(axis=1)[:, None], len(edges), axis=1)
            self._enter(group, row, ways, np.maximum(edges, np.maximum(group.at[:, None], group.of.since[ways])))
            row += len(group.at)

    def add(self, prices: _Prices) -> float:
        """The starts that look best at these prices; what these prove of the groups."""
        row, proven = 0, -prices.earned
        for group in self._groups:
            total, starts = _least(group, prices)
            proven += float(total.min(axis=1) @ group.count)
            ways = np.argsort(total, axis=1, kind="stable")[:, :STARTS]
            self._enter(group, row, ways, np.take_along_axis(starts, ways, 1))
            row += len(group.at)
        return proven

    def solve(self) -> tuple[float, Floats]:
        """The least that the groups weigh with the starts so far, and the prices that go with it."""
        self._solver.run()
        duals = np.array(self._solver.getSolution().row_dual)[self._first_room :]
        return self._solver.getInfo().objective_function_value, np.maximum(-duals, 0.0).reshape(self._free.per_hour.shape)

    def _enter(self, group: _Jobs, first_row: int, ways: Places, starts: Floats) -> None:
        """A column for each group and way: what it weighs, one of the group, and hours of each resource in each slot."""
        of, number = group.of, np.arange(len(ways)).repeat(ways.shape[1])
        way, start = ways.ravel(), starts.ravel()
        run = group.work[number] / of.speeds[way]
        cost = of.hours * (start - group.at[number]) + of.once[way] + group.work[number] * of.per_hour[way]
        edges = np.arange(self._slots) * self._free.slot_hours
        shared = np.minimum(start[:, None] + run[:, None], edges + self._free.slot_hours) - np.maximum(start[:, None], edges)
        used = np.maximum(shared, 0.0)[:, None, :] * of.needs[way][:, :, None]
        column, resource, slot = np.nonzero(used)
        row = self._first_room + (of.places[way[column]] * used.shape[1] + resource) * self._slots + slot
        columns = np.concatenate([np.arange(len(way)), column])
        order = np.argsort(columns, kind="stable")
        begin = np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=len(way)))])[:-1]
        self._solver.addCols(
            len(way),
            cost,
            np.zeros(len(way)),
            np.full(len(way), math.inf),
            len(columns),
            begin.astype(np.int32),
            np.concatenate([first_row + number, row])[order].astype(np.int32),
            np.concatenate([np.ones(len(way)), used[column, resource, slot]])[order],
        )


def _there(scenario: Scenario, slot_hours: float) -> Floats:
    """The part of each pool's nodes that is there, by pool in the order of `Pools`, in the mean over each slot."""
    found = []
    for name, site in scenario.topology.sites.items():
        for pool in sorted(site.pools, key=lambda pool: pool.name):
            changes = [each for each in scenario.changes if isinstance(each, NodesLost | SiteLost) and each.site == name]
            mine = [each for each in changes if isinstance(each, SiteLost) or each.pool == pool.name]
            found.append(_part_there(pool.nodes, mine, slot_hours))
    return np.array(found).reshape(-1, SLOTS)


def _part_there(nodes: int, losses: Sequence[NodesLost | SiteLost], slot_hours: float) -> Floats:
    """Of one pool. A loss takes no more nodes than are left, and gives back what it took; of a lost site none counts."""
    moments = sorted({each.at for each in losses} | {each.until for each in losses})
    there = np.ones(SLOTS)
    edges = np.arange(SLOTS + 1) * slot_hours
    taken: list[tuple[float, int]] = []
    for at, until in pairwise(moments):
        for each in losses:
            if each.at == at and isinstance(each, NodesLost):
                taken.append((each.until, min(each.nodes, nodes - sum(count for _, count in taken))))
        taken = [(end, count) for end, count in taken if end > at]  # after the losses of this moment, as in the simulation
        is_dark = any(isinstance(each, SiteLost) and each.at <= at < each.until for each in losses)
        part = 1.0 if is_dark else sum(count for _, count in taken) / nodes
        there -= part * np.maximum(np.minimum(edges[1:], until / 3600) - np.maximum(edges[:-1], at / 3600), 0.0) / slot_hours
    return there


def _jobs(scenario: Scenario) -> list[_Jobs]:
    """All that can run somewhere, by class."""
    sites = _at_their_cleanest(scenario)
    pools = Pools(sites)
    judge = Judge([SiteView(site, Health.UP, takes=takes(site.engine.kind)) for site in sites], pools)
    data = _Data(scenario, [site.name for site in sites])
    members: dict[Shape, list[Arrival]] = {}
    for arrival in scenario.arrivals:
        members.setdefault(replace(arrival.shape, run_time_s=3600.0, deadline_s=None, priority=0), []).append(arrival)
    found = []
    for shape, arrivals in members.items():
        of = _class(shape, judge, pools, data)
        if len(of.places):
            at, work = (np.array(each) / 3600 for each in zip(*((job.at, job.run_time_s) for job in arrivals), strict=True))
            found.append(_Jobs(of, at, work, np.ones(len(at))))
    return found


def _class(shape: Shape, judge: Judge, pools: Pools, data: _Data) -> _Class:
    """Ways to run an hour of it, but for those whose data can never come."""
    options = judge.options(shape)
    since, egress = data.since(shape)[options.sites], data.egress(shape)[options.sites]
    ways = np.flatnonzero(np.isfinite(since))
    return _Class(
        hours=shape.objective.hours,
        places=options.places[ways],
        speeds=1.0 / options.run_hours[ways],
        needs=pools.needs(options.rows[ways]),
        since=since[ways],
        per_hour=options.weighed[ways],
        once=egress[ways],
    )


class _Data:
    """Of each dataset, by site: when it can be there at the earliest, and each reader's part of what bringing it weighs."""

    def __init__(self, scenario: Scenario, names: Sequence[str]) -> None:
        self._graph, self._names = scenario.topology, names
        inputs = [(of, arrival) for arrival in scenario.arrivals for of in set(arrival.shape.inputs)]
        self._readers = Counter(of for of, _ in inputs)
        self._first: dict[DatasetId, float] = {}
        self._weight: dict[DatasetId, float] = {}
        for of, arrival in inputs:
            self._first[of] = min(self._first.get(of, math.inf), arrival.at / 3600)
            self._weight[of] = min(self._weight.get(of, math.inf), arrival.shape.objective.money)
        widest = _widest(scenario)
        into = {name: [link for link in self._graph.links.values() if link.target == name] for name in names}
        self._gbps = np.array([max((widest[link.name] for link in into[name]), default=0.0) for name in names])
        self._price = np.array([min((link.price_per_gib for link in into[name]), default=0.0) for name in names])

    def since(self, shape: Shape) -> Floats:
        """Hours from the beginning; infinity where it can never be."""
        since = np.zeros(len(self._names))
        for of in set(shape.inputs):
            with np.errstate(divide="ignore"):
                comes = self._first[of] + self._gib(of) * HOURS_AT_ONE_GBPS / self._gbps
            if not self._graph.replica_sites(of):
                comes = np.full(len(self._names), math.inf)
            since = np.maximum(since, np.where(self._is_there(of), 0.0, comes))
        return since

    def egress(self, shape: Shape) -> Floats:
        """Weighed, of one job."""
        parts = np.zeros(len(self._names))
        for of in set(shape.inputs):
            each = self._weight[of] * self._gib(of) * self._price / self._readers[of]
            parts += np.where(self._is_there(of), 0.0, each)
        return parts

    def _is_there(self, of: DatasetId) -> np.ndarray:
        return np.array([self._graph.replica(of, name) is not None for name in self._names])

    def _gib(self, of: DatasetId) -> float:
        known = self._graph.datasets.get(of)
        return (known.size_bytes if known and known.size_bytes is not None else GIB) / GIB


def _at_their_cleanest(scenario: Scenario) -> list[Site]:
    lowest = {name: site.carbon_g_per_kwh for name, site in scenario.topology.sites.items()}
    for change in scenario.changes:
        if isinstance(change, Carbon):
            lowest[change.site] = min(lowest[change.site], change.g_per_kwh)
    return [replace(site, carbon_g_per_kwh=lowest[name]) for name, site in scenario.topology.sites.items()]


def _widest(scenario: Scenario) -> Mapping[str, float]:
    """The most bandwidth of each link at any time."""
    widest = {name: link.bandwidth_gbps for name, link in scenario.topology.links.items()}
    for change in scenario.changes:
        if isinstance(change, Bandwidth):
            widest[change.link] = max(widest[change.link], change.gbps)
    return widest
