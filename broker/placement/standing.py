"""Where a class stands in the queue: its tenant's share beside the others', and whose jobs come before its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from broker.jobs.model import Shape
from broker.placement.fair import ByFairShare
from broker.placement.view import Plan, PlanInput, QueuedClass

MOST_TURNS = 2_000
"""Of the order that are followed; who has more before it is told at least so many."""
MOST_TOLD = 3
"""Tenants that are named."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The tenant's dominant share (0 to 1, by what it holds and held of late, as `fair.py` counts it) divided by its weight; its
    place among the tenants that want something, 1 for the next; and the jobs that have their turn before the first of the class,
    in all and by tenant, most first. `is_more` says that there are more than were counted."""

    tenant: str
    share: float
    place: int
    tenants: int
    ahead: int
    by_tenant: tuple[tuple[str, int], ...]
    is_more: bool = False

    @property
    def text(self) -> str:
        """For people."""
        who = ", ".join(f"{count} of {name}" for name, count in self.by_tenant[:MOST_TOLD])
        others = len(self.by_tenant) - MOST_TOLD
        who += f" and of {others} more tenants" if others > 0 else ""
        jobs = "1 job is" if self.ahead == 1 else f"{self.ahead} jobs are"
        ahead = f"{'more than ' if self.is_more else ''}{jobs} ahead: {who}" if self.ahead else "nobody's jobs are ahead"
        turn = f"{_ordinal(self.place)} of {self.tenants} whose turn is next; " if self.tenants > 1 else ""
        return f"tenant {self.tenant} has {self.share:.1%} of the federation by its weight: {turn}{ahead}"


def left_over(given: PlanInput, made: Plan) -> PlanInput:
    """The queue once a plan is written."""
    placed: Counter[Shape] = Counter()
    for placement in made.placements:
        placed[placement.shape] += placement.count
    classes = (_without(queued, placed[queued.shape]) for queued in given.classes)
    return replace(given, classes=tuple(queued for queued in classes if queued.created))


def standing(shape: Shape, queue: PlanInput) -> Standing:
    """Where a class stands. One that is not in the queue stands as if its first job came now."""
    if not any(queued.shape == shape for queued in queue.classes):
        queue = replace(queue, classes=(*queue.classes, QueuedClass(shape, (queue.now,), 1)))
    order = ByFairShare(queue)
    shares = order.shares()
    wanting = {queued.shape.tenant for queued in queue.classes}
    ranked = sorted(wanting, key=lambda name: (shares[name], name))
    ahead: Counter[str] = Counter()
    turns = 0
    while (turn := order.turn()) and turn[0].shape != shape and turns < MOST_TURNS:
        queued, count = turn
        ahead[queued.shape.tenant] += count
        order.took(count)
        turns += 1
    tenant = shape.tenant
    place = ranked.index(tenant) + 1
    is_more = turns == MOST_TURNS
    return Standing(tenant, shares[tenant], place, len(ranked), ahead.total(), tuple(ahead.most_common()), is_more)


def _without(queued: QueuedClass, placed: int) -> QueuedClass:
    return replace(queued, created=queued.created[placed:], count=queued.count - placed) if placed else queued


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
