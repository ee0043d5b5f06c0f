"""The plans of the parts of a federation made into one, and a second round for what its part had no room for.

The second round is a plan over the whole, with all links, of what the first has left: of classes that some pool has room for, of
pools that nothing waits for. It is as if the next plan came at once, for few classes; so a job that no part could bring the data
of, over links of its own, is placed in spite of the division.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from broker.jobs.model import Shape
from broker.placement.assign import plan
from broker.placement.grouping import Groups
from broker.placement.memory import Memory
from broker.placement.partition import divide
from broker.placement.pools import Pools
from broker.placement.view import Held, Passed, Placement, Plan, PlanInput, SiteView, TenantView
from topology.resources import Resources
from topology.room import Room

MOST_AGAIN = 100
"""Classes in the second round, of the highest priority and the oldest."""

Plans = Callable[[Sequence[PlanInput]], Sequence[Plan]]
"""The plans of several inputs, in their order. The parts of one federation are always in the same order, so that whoever makes
their plans may keep a memory for each."""


def plan_in_parts(given: PlanInput, groups: Groups, plans: Plans, memory: Memory | None = None) -> Plan:
    """One plan, made of one for each group. The same input always gives the same plan. `groups` are of the same sites and links;
    `memory` is the whole's. With one group it is the plan of the whole."""
    if len(groups) == 1:
        return plans([given])[0]
    memory = memory or Memory()
    pools, judge, _ = memory.begin(given)
    division = divide(given, groups, pools, judge)
    first = _joined([Plan(passed=division.passed, is_cut=division.is_cut), *plans(division.parts)], given)
    again = _again(given, first, memory)
    second = _fitting(given, first, plan(again, memory=memory)) if again.classes and again.most else Plan()
    return _joined([first, second], given)


def _joined(plans: Sequence[Plan], given: PlanInput) -> Plan:
    """One plan of several that place no job twice. Of a class that waits in several parts the reason is one that says what it
    waits for, if there is one; none is left for a class that was placed whole."""
    placements = tuple(placement for each in plans for placement in each.placements)
    placed, reasons = _placed(placements), dict[Shape, Passed]()
    for each in plans:
        for shape, reason in each.passed.items():
            if shape not in reasons or (reason.site and not reasons[shape].site):
                reasons[shape] = reason
    return Plan(
        placements,
        tuple(booking for each in plans for booking in each.bookings),
        {each.shape: reasons[each.shape] for each in given.classes if each.shape in reasons and placed[each.shape] < each.count},
        any(each.is_cut for each in plans),
        tuple(fault for each in plans for fault in each.faults),
    )


def _again(given: PlanInput, first: Plan, memory: Memory) -> PlanInput:
    """The world as it is once the first plan is written, with the classes that are to be planned again. A pool that something
    waits for shows no room: that is kept."""
    placed, awaited = _placed(first.placements), {(each.site, each.pool) for each in first.passed.values()}
    left = [
        replace(queued, created=queued.created[placed[queued.shape] :], count=queued.count - placed[queued.shape])
        for queued in sorted(given.classes, key=lambda queued: (-queued.shape.priority, queued.created[0], repr(queued.shape)))
        if queued.shape in first.passed and placed[queued.shape] < len(queued.created)
    ]
    at_site, of_tenant = _by(first.placements, lambda each: each.site), _by(first.placements, lambda each: each.shape.tenant)
    world = replace(
        given,
        sites=tuple(_view_after(view, at_site[view.site.name], awaited, given.now) for view in given.sites),
        tenants=tuple(_tenant_after(tenant, of_tenant[tenant.name]) for tenant in given.tenants),
        bookings=(*given.bookings, *first.bookings),
        classes=(),
        most=given.most - sum(placed.values()),
    )
    pools, judge, _ = memory.begin(world)
    options = ((queued, judge.options(queued.shape)) for queued in left)
    with_room = [queued for queued, o in options if pools.jobs(o.rows, o.places, o.run_hours).any()]
    return replace(world, classes=tuple(with_room[:MOST_AGAIN]))


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


def _tenant_after(tenant: TenantView, placements: Sequence[Placement]) -> TenantView:
    holds = tenant.holds
    for placement in placements:
        holds = holds + _task(placement) * (placement.shape.tasks * placement.count)
    return replace(tenant, holds=holds)


def _fitting(given: PlanInput, first: Plan, second: Plan) -> Plan:
    """Of the second plan what starts at once, and for which whole nodes have room beside the first, as that was packed: the
    second took it for work that runs, which may be packed otherwise."""
    views, before = {view.site.name: view for view in given.sites}, _by(first.placements, lambda each: each.site)
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


def _placed(placements: Iterable[Placement]) -> Counter[Shape]:
    counts: Counter[Shape] = Counter()
    for placement in placements:
        counts[placement.shape] += placement.count
    return counts


def _by(placements: Iterable[Placement], key: Callable[[Placement], str]) -> Mapping[str, list[Placement]]:
    found: dict[str, list[Placement]] = defaultdict(list)
    for placement in placements:
        found[key(placement)].append(placement)
    return found
