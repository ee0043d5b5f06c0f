"""Where a class stands in the queue: its tenant's share beside its siblings', and whose jobs come before its own.

The queue that a plan leaves is dealt out once more in the plan's order, as if there were room for all of it: who is ahead is who
would have had a turn by then. So the jobs of one tenant are ahead only until it is another's turn by their shares.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from broker.jobs.model import Shape
from broker.placement.fair import ByFairShare
from broker.placement.merging import grouped_by, placed_by_class, tenant_after
from broker.placement.view import Plan, PlanInput, QueuedClass, TenantView

MOST_TURNS = 500
"""Of the order that are followed; of who has more before it, it is told that there are more."""
MOST_TOLD = 3
"""Tenants that are named."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """Jobs of one tenant that come before a class, and the tenant's dominant share (0 to 1)."""

    tenant: str
    jobs: int
    share: float


@dataclass(frozen=True, slots=True)
class Standing:
    """A tenant's dominant share (0 to 1, by what it holds and held of late, as `fair.py` counts it) and its weight; its place
    among those below the same parent that want something, 1 for the next; and the jobs that have their turn before the class,
    most first. `before` are those of the class itself before the job asked about.

    `has_more` says that more jobs are ahead than were counted. `is_planned` is False of a class that no plan has looked at yet:
    it stands where it would be if its first job came now.
    """

    tenant: str
    share: float
    weight: float
    parent: str
    place: int
    siblings: int
    ahead: int
    by_tenant: tuple[Ahead, ...]
    before: int = 0
    has_more: bool = False
    is_planned: bool = True

    @property
    def text(self) -> str:
        """For people."""
        below = f" below {self.parent}" if self.parent else ""
        turn = f": {_ordinal(self.place)} of {self.siblings}{below} whose turn is next" if self.siblings > 1 else ""
        held = f"tenant {self.tenant} holds or held of late {_part(self.share)} of the federation (weight {self.weight:g}){turn}"
        return f"{'' if self.is_planned else 'no plan has looked at it yet; '}{held}; {self._ahead_text}"

    @property
    def _ahead_text(self) -> str:
        own = f"{self.before:,} of its own class {'is' if self.before == 1 else 'are'} older" if self.before else ""
        if not self.ahead:
            return own or "no job is ahead"
        told = [f"{each.jobs:,} of {each.tenant} ({_part(each.share)})" for each in self.by_tenant[:MOST_TOLD]]
        others = len(self.by_tenant) - MOST_TOLD
        told += [f"and of {others} more {'tenant' if others == 1 else 'tenants'}"] if others > 0 else []
        lead = f"{'more than ' if self.has_more else ''}{_jobs(self.ahead)} ahead of its class: {', '.join(told)}"
        return f"{lead}; {own}" if own else lead


def left_over(given: PlanInput, made: Plan) -> PlanInput:
    """The queue once a plan is written, and what tenants hold then."""
    placed = placed_by_class(made.placements)
    of_tenant = grouped_by(made.placements, lambda placement: placement.shape.tenant)
    classes = (_without(queued, placed[queued.shape]) for queued in given.classes)
    tenants = tuple(tenant_after(tenant, of_tenant.get(tenant.name, ())) for tenant in given.tenants)
    return replace(given, classes=tuple(queued for queued in classes if queued.created), tenants=tenants)


def standing(shape: Shape, queue: PlanInput, before: int = 0) -> Standing:
    """Where a class stands, and in it a job that has so many before it."""
    is_planned = any(queued.shape == shape for queued in queue.classes)
    if not is_planned:
        queue = replace(queue, classes=(*queue.classes, QueuedClass(shape, (queue.now,), 1)))
    order = ByFairShare(queue)
    shares, rivals = order.shares(), order.rivals(shape.tenant)
    ahead, has_more = _ahead(shape, order)
    weights = {tenant.name: tenant for tenant in queue.tenants}
    tenant = weights.get(shape.tenant, TenantView(shape.tenant))
    held = {name: shares[name] * (weights[name].weight if name in weights else 1.0) for name in (*ahead, shape.tenant)}
    return Standing(
        tenant=shape.tenant,
        share=held[shape.tenant],
        weight=tenant.weight,
        parent=tenant.parent,
        place=rivals.index(shape.tenant) + 1,
        siblings=len(rivals),
        ahead=ahead.total(),
        by_tenant=tuple(Ahead(name, jobs, held[name]) for name, jobs in ahead.most_common()),
        before=before,
        has_more=has_more,
        is_planned=is_planned,
    )


def _ahead(shape: Shape, order: ByFairShare) -> tuple[Counter[str], bool]:
    """The jobs that have a turn before the first of a class, by tenant, and whether there are more than were counted: past so
    many turns, and of classes that are not shown whole."""
    ahead: Counter[str] = Counter()
    seen: Counter[int] = Counter()
    has_more = False
    for _ in range(MOST_TURNS):
        turn = order.turn()
        if turn is None or turn[0].shape == shape:
            return ahead, has_more
        queued, count = turn
        ahead[queued.shape.tenant] += count
        seen[id(queued)] += count
        has_more = has_more or len(queued.created) == seen[id(queued)] < queued.count
        order.took(count)
    return ahead, True


def _without(queued: QueuedClass, placed: int) -> QueuedClass:
    """Of one that was not shown whole the rest is as young as the youngest shown, or younger: one of them stands for all."""
    if not placed:
        return queued
    count = queued.count - placed
    created = queued.created[placed:] or (queued.created[-1:] if count else ())
    return replace(queued, created=created, count=count)


def _jobs(count: int) -> str:
    return "1 job is" if count == 1 else f"{count:,} jobs are"


def _part(share: float) -> str:
    return f"{share:.1%}"


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
