"""Whose turn it is among tenants: hierarchical dominant resource fairness over all sites together.

A tenant's share is the largest part that it holds of the federation's cpus, memory or GPUs (Ghodsi et al., NSDI 2011), divided by
its weight; the one with the least is next. In a tree of tenants that is decided level by level, from the root down. What an inner
node holds is the sum of its children with each scaled down to the least share among those that still want something, and without
those that want nothing (Bhattacharya et al., SoCC 2013, sections 4.2 and 4.3): a child's large holding then never keeps its
siblings from theirs. What may not be preempted goes first, then what is within its tenant's quota, then what fills up; all of it
counts alike in the shares.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from broker.jobs.model import Shape
from broker.placement.order import ByPriorityAndAge, Rank
from broker.placement.quotas import above
from broker.placement.view import PlanInput, QueuedClass, TenantView

SLACK = 0.001
"""A tenant may get ahead of the next by this part of the federation before it is the other's turn: jobs are placed by the row."""

Amounts = tuple[float, float, float]
"""Parts of all cpus, memory and GPUs."""
NONE: Amounts = (0.0, 0.0, 0.0)


@dataclass(slots=True, eq=False)
class _Node:
    """A tenant, or the part of an inner one that submits jobs itself. `uses` counts what it holds and has held of late."""

    name: str
    weight: float
    parent: _Node | None
    children: list[_Node] = field(default_factory=list)
    uses: Amounts = NONE
    classes: list[QueuedClass] = field(default_factory=list)
    order: ByPriorityAndAge | None = None
    aside: list[tuple[QueuedClass, int]] = field(default_factory=list)
    """Classes for the last rank, and how many of their jobs were placed before."""
    is_over: bool = False
    """Whether nothing below it wants anything more at this rank."""

    @property
    def share(self) -> float:
        """The dominant share by weight."""
        return max(self.uses) / self.weight


class ByFairShare:
    """Rank by rank, the tenant of the least share first, and inside a tenant by priority, deadline and age."""

    def __init__(self, given: PlanInput) -> None:
        self.rank = Rank.FIRM
        self._whole, self._now = _whole(given), given.now
        by_tenant: dict[str, list[QueuedClass]] = {}
        for queued in given.classes:
            if queued.created:
                by_tenant.setdefault(queued.shape.tenant, []).append(queued)
        self._root = _Node("", 1.0, None)
        self._nodes: dict[str, _Node] = {}
        known = {tenant.name: tenant for tenant in given.tenants}
        for name in sorted({*known, *by_tenant}):
            self._enter(name, known)
        for name, node in list(self._nodes.items()):
            leaf = node
            if node.children:
                leaf = _Node(name, 1.0, node)
                node.children.append(leaf)
            tenant = known.get(name)
            leaf.uses = self._uses(tenant) if tenant else NONE
            leaf.classes = by_tenant.get(name, [])
        self._has_quota = {name for name in self._nodes if any(known[each].quotas for each in above(name, known))}
        self._begin(Rank.FIRM)
        self._turn: _Node | None = None
        self._shape: Shape | None = None

    def turn(self) -> tuple[QueuedClass, int] | None:
        """As `Order.turn`."""
        found = self._turn_at_rank()
        while found is None and self.rank is not Rank.SPARE:
            self._begin(Rank(self.rank + 1))
            found = self._turn_at_rank()
        return found

    def _turn_at_rank(self) -> tuple[QueuedClass, int] | None:
        while not self._root.is_over:
            node, room = self._root, math.inf
            while node.children:
                wanting = sorted((child for child in node.children if not child.is_over), key=_by_share)
                node = wanting[0]
                if len(wanting) > 1:
                    room = min(room, (wanting[1].share - node.share + SLACK) * node.weight)
            found = node.order.turn() if node.order else None
            if found is None:
                self._end(node)
                continue
            queued, in_a_row = found
            self._turn, self._shape = node, queued.shape
            each = max(self._needs(queued.shape))
            most = math.floor(room / each) if each and math.isfinite(room) else in_a_row
            return queued, max(min(in_a_row, most), 1)
        return None

    def took(self, count: int) -> None:
        """As `Order.took`."""
        node, shape = self._turn, self._shape
        assert node is not None
        assert node.order is not None
        assert shape is not None
        cpus, memory, gpus = self._needs(shape)
        node.uses = _sum((node.uses, (cpus * count, memory * count, gpus * count)))
        node.order.took(count)
        self._sum_up(node.parent)

    def drop(self) -> None:
        """As `Order.drop`."""
        assert self._turn is not None
        assert self._turn.order is not None
        self._turn.order.drop()

    def set_aside(self) -> None:
        """As `Order.set_aside`."""
        assert self._turn is not None
        assert self._turn.order is not None
        self._turn.aside.append(self._turn.order.taken_out())

    def shares(self) -> dict[str, float]:
        """Each tenant's dominant share, by weight, as things are now; of an inner one all below it count."""
        return {name: node.share for name, node in self._nodes.items()}

    def rivals(self, tenant: str) -> tuple[str, ...]:
        """Of a tenant and its siblings those below which something is queued, by whose turn is next as things are now."""
        parent = self._nodes[tenant].parent or self._root
        return tuple(node.name for node in sorted(filter(_wants, parent.children), key=_by_share))

    def _enter(self, name: str, known: dict[str, TenantView]) -> _Node:
        """A tenant's node below its parent's; below the root where that is unknown, or above itself."""
        found = self._nodes.get(name)
        if found is None:
            tenant = known.get(name, TenantView(name))
            has_parent = tenant.parent in known and name not in above(tenant.parent, known)
            parent = self._enter(tenant.parent, known) if has_parent else self._root
            found = self._nodes[name] = _Node(name, tenant.weight, parent)
            parent.children.append(found)
        return found

    def _begin(self, rank: Rank) -> None:
        self.rank = rank
        self._settle(self._root)

    def _settle(self, node: _Node) -> None:
        """Work out, from the leaves up, who wants something at this rank."""
        for child in node.children:
            self._settle(child)
        if node.children:
            node.is_over = all(child.is_over for child in node.children)
            node.uses = _of_children(node)
        else:
            node.order = self._order_of(node)
            node.is_over = node.order is None

    def _order_of(self, leaf: _Node) -> ByPriorityAndAge | None:
        wanting = [(queued, 0) for queued in leaf.classes if self._first_rank(queued.shape) is self.rank]
        if self.rank is Rank.SPARE:
            wanting += leaf.aside
        classes, done = [queued for queued, _ in wanting], [count for _, count in wanting]
        return ByPriorityAndAge(classes, self._now, self.rank, done) if classes else None

    def _first_rank(self, shape: Shape) -> Rank:
        if not shape.preemptible:
            return Rank.FIRM
        return Rank.OWN if shape.tenant in self._has_quota else Rank.SPARE

    def _end(self, node: _Node) -> None:
        """Nothing is wanted here any more."""
        node.is_over = True
        if node.parent and all(child.is_over for child in node.parent.children):
            self._end(node.parent)
        else:
            self._sum_up(node.parent)

    def _sum_up(self, node: _Node | None) -> None:
        while node is not None:
            node.uses = _of_children(node)
            node = node.parent

    def _needs(self, shape: Shape) -> Amounts:
        each, tasks = shape.resources, shape.tasks
        cpus, memory, gpus = self._whole
        return (each.cpus * tasks / cpus, each.memory_gib * tasks / memory, each.gpus.count * tasks / gpus)

    def _uses(self, tenant: TenantView) -> Amounts:
        (cpus, memory, gpus), past, holds = self._whole, tenant.past, tenant.holds
        return ((holds.cpus + past[0]) / cpus, (holds.memory_gib + past[1]) / memory, (holds.gpu_count + past[2]) / gpus)


def _of_children(node: _Node) -> Amounts:
    """What an inner node holds: of the children that want something, each as if it had no more than the least of them; of all of
    them where none does."""
    wanting = [child for child in node.children if not child.is_over]
    if not wanting:
        return _sum(child.uses for child in node.children)
    least = min(child.share for child in wanting)
    return _sum(_scaled(child.uses, least / child.share if child.share else 0.0) for child in wanting)


def _wants(node: _Node) -> bool:
    return bool(node.classes) or any(_wants(child) for child in node.children)


def _whole(given: PlanInput) -> Amounts:
    """All that the federation may use, never 0."""
    totals = [room.total for view in given.sites for room in view.rooms.values()]
    cpus, memory = sum(total.cpus for total in totals), sum(total.memory_gib for total in totals)
    return (cpus or 1.0, memory or 1.0, float(sum(total.gpu_count for total in totals)) or 1.0)


def _by_share(node: _Node) -> tuple[float, str]:
    return (node.share, node.name)


def _scaled(amounts: Amounts, factor: float) -> Amounts:
    return (amounts[0] * factor, amounts[1] * factor, amounts[2] * factor)


def _sum(amounts: Iterable[Amounts]) -> Amounts:
    totals: Sequence[float] = [0.0, 0.0, 0.0]
    for each in amounts:
        totals = [a + b for a, b in zip(totals, each, strict=True)]
    return (totals[0], totals[1], totals[2])
