"""The plans of the parts of a federation made into one, and a second round for what its part had no room for.

The second round is a plan over all links of what the first has left: of classes for which there may be room in a part that did
not find it had none, and of pools that nothing waits for. It is as if the next plan came at once, for few classes and sites; so a
job that no part could bring the data of, over links of its own, is placed in spite of the division.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from broker.jobs.model import Shape
from broker.placement.assign import plan
from broker.placement.companions import groups_after
from broker.placement.grouping import Groups
from broker.placement.judge import Judge
from broker.placement.memory import Memory
from broker.placement.partition import divide, is_divisible
from broker.placement.pools import Pools
from broker.placement.sketch import jobs_by_sums
from broker.placement.view import Held, Passed, Placement, Plan, PlanInput, QueuedClass, SiteView, TenantView
from topology.resources import Resources
from topology.room import Room

MOST_AGAIN = 100
"""Classes in the second round, of the highest priority and the oldest."""

Plans = Callable[[Sequence[PlanInput]], Sequence[Plan]]
"""The plans of several inputs, in their order. The parts of one federation are always in the same order, so that whoever makes
their plans may keep a memory for each."""


def plan_in_parts(given: PlanInput, groups: Groups, plans: Plans, memory: Memory | None = None) -> Plan:
    """One plan, made of one for each group. The same input always gives the same plan. `groups` are of the same sites and links;
    `memory` is the whole's. With one group, or where no parts can be planned apart, it is the plan of the whole."""
    if len(groups) == 1:
        return plans([given])[0]
    if not is_divisible(given):
        return plan(given, memory=memory)
    pools, judge, _ = (memory or Memory()).begin(given)
    division = divide(given, groups, pools, judge)
    made = plans(division.parts)
    first = _joined([Plan(passed=division.passed, is_cut=division.is_cut), *made], given)
    again = _again(given, first, _Openings(groups, made, first, pools, judge))
    second = _fitting(given, first, plan(again)) if again.classes and again.most else Plan()
    return _joined([first, second], given)


def _joined(plans: Sequence[Plan], given: PlanInput) -> Plan:
    """One plan of several that place no job twice. Of a class that waits in several parts the reason is one that says what it
    waits for, if there is one; none is left for a class that was placed whole."""
    placements = tuple(placement for each in plans for placement in each.placements)
    placed, reasons = placed_by_class(placements), dict[Shape, Passed]()
    for each in plans:
        for shape, reason in each.passed.items():
            if shape not in reasons or (reason.site and not reasons[shape].site):
                reasons[shape] = reason
    return Plan(
        placements,
        tuple(booking for each in plans for booking in each.bookings),
        {each.shape: reasons[each.shape] for each in given.classes if each.shape in reasons and placed[each.shape] < each.count},
        tuple(eviction for each in plans for eviction in each.evictions),
        any(each.is_cut for each in plans),
        tuple(fault for each in plans for fault in each.faults),
        tuple(awaited for each in plans for awaited in each.awaited),
    )


class _Openings:
    """Where there may be room for what the first round has left, by sums."""

    def __init__(self, groups: Groups, made: Sequence[Plan], first: Plan, pools: Pools, judge: Judge) -> None:
        self._groups, self._made, self._pools, self._judge = groups, made, pools, judge
        self._free = pools.totals()
        names = zip((groups.sites[site] for site in pools.sites), (pool.name for pool in pools.pools), strict=True)
        places = {name: place for place, name in enumerate(names)}
        for placement in first.placements:
            whole = _task(placement) * (placement.shape.tasks * placement.count)
            self._free[places[placement.site, placement.pool]] -= pools.vector(whole)
        awaited = [places[passed.site, passed.pool] for each in made for passed in each.passed.values() if passed.site]
        self._free[awaited] = 0.0

    def sites(self, shape: Shape) -> set[str]:
        """Those with room for a job in a pool that nothing waits for, but for parts in which it waits for room: there is none.
        With them the sites at which it waits, since it may rather do so; none where no site has room."""
        waits = [each.passed[shape].site if shape in each.passed else "" for each in self._made]
        options = self._judge.options(shape)
        is_open = np.array([not site for site in waits])[self._groups.of[options.sites]]
        has_room = jobs_by_sums(self._free[options.places], self._pools.needs(options.rows)) > 0
        found = {self._groups.sites[site] for site in options.sites[is_open & has_room]}
        return found and found.union(filter(None, waits))


def _again(given: PlanInput, first: Plan, openings: _Openings) -> PlanInput:
    """What is to be planned again: the world as it is once the first plan is written, as far as it matters for classes that may
    find room. A pool that something waits for shows none: that is kept."""
    placed, chosen, sites = placed_by_class(first.placements), list[QueuedClass](), set[str]()
    for queued in sorted(given.classes, key=lambda queued: (-queued.shape.priority, queued.created[0], repr(queued.shape))):
        count = placed[queued.shape]
        found = openings.sites(queued.shape) if queued.shape in first.passed and count < len(queued.created) else set()
        if found and len(chosen) < MOST_AGAIN:
            sites |= found
            chosen.append(replace(queued, created=queued.created[count:], count=queued.count - count))
    awaited = {(each.site, each.pool) for each in first.passed.values()}
    at_site = grouped_by(first.placements, lambda each: each.site)
    of_tenant = grouped_by(first.placements, lambda each: each.shape.tenant)
    views = (view for view in given.sites if view.site.name in sites)
    return replace(
        given,
        sites=tuple(_view_after(view, at_site[view.site.name], awaited, given.now) for view in views),
        tenants=tuple(tenant_after(tenant, of_tenant[tenant.name]) for tenant in given.tenants),
        bookings=(*given.bookings, *first.bookings),
        classes=tuple(chosen),
        most=given.most - sum(placed.values()),
        groups=groups_after(given.groups, first.placements),
    )


def _view_after(view: SiteView, placements: Sequence[Placement], awaited: set[tuple[str, str]], now: float) -> SiteView:
    """With what was placed there, and with all that is free held for ever in a pool that something waits for."""
    pools = [pool for pool in view.rooms if (view.site.name, pool) in awaited]
    if not placements and not pools:
        return view
    ends = ((now + each.decision.cost.hours * 3600,) * each.count for each in placements)
    held = [Held(each.pool, _task(each), each.shape.tasks, until) for each, until in zip(placements, ends, strict=True)]
    if pools:
        packed = _Packed(view, placements, now)
        held += [Held(pool, free, 1, (math.inf,) * count) for pool in pools for free, count in packed.room(pool).groups]
    return replace(view, held=(*view.held, *held))


def tenant_after(tenant: TenantView, placements: Sequence[Placement]) -> TenantView:
    """A tenant that holds what placements give it, too."""
    holds, holds_at = tenant.holds, dict(tenant.holds_at)
    for placement in placements:
        whole = _task(placement) * (placement.shape.tasks * placement.count)
        holds, holds_at[placement.site] = holds + whole, holds_at.get(placement.site, Resources()) + whole
    return replace(tenant, holds=holds, holds_at=holds_at)


def _fitting(given: PlanInput, first: Plan, second: Plan) -> Plan:
    """Of the second plan what starts at once, and for which whole nodes have room beside the first, as that was packed: the
    second took it for work that runs, which may be packed otherwise. Nobody gives way a second time."""
    views, before = {view.site.name: view for view in given.sites}, grouped_by(first.placements, lambda each: each.site)
    packed: dict[str, _Packed] = {}
    kept: list[Placement] = []
    for placement in second.placements:
        site = placement.site
        if site not in packed:
            packed[site] = _Packed(views[site], before[site], given.now)
        count = packed[site].fit(placement)
        if count:
            packed[site].take(placement, count)
            kept.append(replace(placement, count=count))
    needed = {booking for placement in kept for booking in placement.bookings}
    return replace(
        second,
        placements=tuple(kept),
        bookings=tuple(booking for booking in second.bookings if booking in needed),
        passed={},
        evictions=(),
        awaited=(),
    )


class _Packed:
    """The pools of one site, node by node, as placements fill them."""

    def __init__(self, view: SiteView, placements: Iterable[Placement], now: float) -> None:
        self._pools = Pools((view.site,))
        self._pools.begin((view,), now)
        self._places = {pool.name: place for place, pool in enumerate(self._pools.pools)}
        for placement in placements:
            self.take(placement, placement.count)

    def room(self, pool: str) -> Room:
        """What is free in a pool."""
        return self._pools.room(self._places[pool])

    def fit(self, placement: Placement) -> int:
        """How many of its jobs start now."""
        if placement.decision.cost.wait_hours:
            return 0
        task, place = _task(placement), self._places[placement.pool]
        return self._pools.capacity(task, placement.shape.tasks, place, 0.0, placement.count)

    def take(self, placement: Placement, count: int) -> None:
        """So many of its jobs start; those that wait in the site's own queue take nothing."""
        if not placement.decision.cost.wait_hours:
            self._pools.take(_task(placement), placement.shape.tasks, count, self._places[placement.pool], 0.0)


def _task(placement: Placement) -> Resources:
    return placement.shape.resources.on(placement.gpu_type)


def placed_by_class(placements: Iterable[Placement]) -> Counter[Shape]:
    """How many jobs of each class they place."""
    counts: Counter[Shape] = Counter()
    for placement in placements:
        counts[placement.shape] += placement.count
    return counts


def grouped_by(placements: Iterable[Placement], key: Callable[[Placement], str]) -> Mapping[str, list[Placement]]:
    """Placements by what `key` says of each."""
    found: dict[str, list[Placement]] = defaultdict(list)
    for placement in placements:
        found[key(placement)].append(placement)
    return found
