"""A queue over a big federation divided into parts, one for each group of sites, that are planned side by side.

Each site, job and link is in exactly one part. Partitions of like kind cost little of what the whole would gain, as long as each
has many jobs and sites (POP: Narayanan et al., SOSP 2021); what the parts leave over is for `merging.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from broker.jobs.model import Shape
from broker.placement import reasons
from broker.placement.arrays import Floats, Places
from broker.placement.grouping import Groups
from broker.placement.judge import Judge
from broker.placement.pools import Pools
from broker.placement.quotas import above
from broker.placement.sketch import in_whole, sketched
from broker.placement.view import Passed, PlanInput, QueuedClass, TenantView
from topology.graph import Topology
from topology.resources import Resources


@dataclass(frozen=True, slots=True)
class Division:
    """The parts, by group, and why the classes wait that no site can run: they are in no part. `is_cut` says that a part is left
    without its classes, since none of the jobs that the plan may place would be its own."""

    parts: tuple[PlanInput, ...]
    passed: Mapping[Shape, Passed] = field(default_factory=dict)
    is_cut: bool = False


def is_divisible(given: PlanInput) -> bool:
    """Whether parts can be planned apart: not where a tenant's quota counts what it holds at all sites together, and not where
    jobs are all to be at one site, or prefer some to others, which may be in another part."""
    is_bound = any(each.shape.sites.affinity is not None or each.shape.sites.prefer for each in given.classes)
    return not is_bound and not any(quota.site is None for tenant in given.tenants for quota in tenant.quotas)


def divide(given: PlanInput, groups: Groups, pools: Pools, judge: Judge) -> Division:
    """One part for each group, which may have no classes. `pools` and `judge` are those of the whole, as a plan begins.

    A tenant's weight counts in a part as its share of what the tenant wants is to the part's share of all room, and what it holds
    is divided by what it wants: its share among those it meets there is then about its share of the whole.
    """
    counts = sketched(given, groups, pools, judge)
    passed = {each.shape: reasons.objected(judge.objections(each.shape)) for each in given.classes if each.shape not in counts}
    classes: list[list[QueuedClass]] = [[] for _ in groups.graphs]
    for queued in given.classes:
        if queued.shape in counts:
            for group, part in _shared_out(queued, counts[queued.shape]):
                classes[group].append(part)
    rooms = _rooms(groups, pools)
    tenants = _tenants(given.tenants, _wanted(counts, pools), rooms)
    jobs = sum(counts.values(), np.zeros(len(groups), dtype=np.intp))
    most = in_whole(jobs.astype(float), given.most) if jobs.any() else jobs
    idle = [group for group, some in enumerate(classes) if some and not most[group]]
    for group in idle:
        classes[group] = []
    return Division(
        tuple(
            replace(
                given,
                topology=_topology(groups.graphs[group], given.topology, classes[group]),
                sites=tuple(view for view in given.sites if groups.group(view.site.name) == group),
                classes=tuple(classes[group]),
                bookings=tuple(booking for booking in given.bookings if groups.is_for(booking, group)),
                tenants=tenants[group],
                most=int(most[group]),
            )
            for group in range(len(groups))
        ),
        passed,
        bool(idle),
    )


def _shared_out(queued: QueuedClass, counts: Places) -> list[tuple[int, QueuedClass]]:
    """So many of a class's jobs for each group: each gets old and new ones alike. Jobs that are not shown are divided alike."""
    chosen = np.flatnonzero(counts)
    if len(chosen) == 1:
        return [(int(chosen[0]), queued)]
    turns = np.concatenate([(np.arange(count) + 0.5) / count for count in counts[chosen]])
    owners = np.repeat(chosen, counts[chosen])[np.argsort(turns, kind="stable")]
    created, hidden = np.array(queued.created), in_whole(counts.astype(float), queued.count - len(queued.created))
    return [
        (int(group), replace(queued, created=tuple(created[owners == group].tolist()), count=int(counts[group] + hidden[group])))
        for group in chosen
    ]


def _rooms(groups: Groups, pools: Pools) -> Floats:
    """Each group's share of what the federation may use, cpus, memory and GPUs alike."""
    wholes = pools.wholes()
    by_group = np.zeros((len(groups), wholes.shape[1]))
    np.add.at(by_group, groups.of[pools.sites], wholes)
    totals = by_group.sum(axis=0)
    if not totals.any():
        return np.full(len(groups), 1 / len(groups))
    shares: Floats = (by_group[:, totals > 0] / totals[totals > 0]).mean(axis=1)
    return shares


def _wanted(counts: Mapping[Shape, Places], pools: Pools) -> dict[str, Floats]:
    """What each tenant's jobs want in each group, as parts of the federation by their dominant resource."""
    wholes = pools.wholes().sum(axis=0)
    cpus, memory, gpus = (float(each) or 1.0 for each in (wholes[0], wholes[1], wholes[2:].sum()))
    wanted: dict[str, Floats] = {}
    for shape, count in counts.items():
        each = shape.resources
        dominant = shape.tasks * max(each.cpus / cpus, each.memory_gib / memory, each.gpus.count / gpus)
        wanted[shape.tenant] = wanted.get(shape.tenant, np.zeros(len(count))) + count * dominant
    return wanted


def _tenants(tenants: Sequence[TenantView], wanted: Mapping[str, Floats], rooms: Floats) -> list[tuple[TenantView, ...]]:
    """By group. What is wanted below a tenant counts for it, too; one of which nothing waits is divided by room."""
    known = {tenant.name: tenant for tenant in tenants}
    below: dict[str, Floats] = {}
    for name, amounts in wanted.items():
        for each in above(name, known):
            below[each] = below.get(each, np.zeros(len(rooms))) + amounts
    found: list[list[TenantView]] = [[] for _ in rooms]
    for tenant in tenants:
        amounts = below.get(tenant.name, rooms)
        parts = amounts / amounts.sum() if amounts.any() else rooms
        holds = _divided(tenant.holds, parts)
        for group, (part, room) in enumerate(zip(parts.tolist(), rooms.tolist(), strict=True)):
            weight = tenant.weight * part / room if part and room else tenant.weight
            cpus, memory, gpus = tenant.past
            past = (cpus * part, memory * part, gpus * part)
            found[group].append(replace(tenant, weight=weight, holds=holds[group], past=past))
    return [tuple(each) for each in found]


def _divided(amount: Resources, parts: Floats) -> list[Resources]:
    """GPUs stay whole."""
    gpus = {kind: in_whole(parts, count) for kind, count in amount.gpus}
    return [
        Resources.of(amount.cpus * part, amount.memory_gib * part, {kind: int(counts[group]) for kind, counts in gpus.items()})
        for group, part in enumerate(parts.tolist())
    ]


def _topology(graph: Topology, whole: Topology, classes: Sequence[QueuedClass]) -> Topology:
    """A group's graph with what its classes read."""
    inputs = {dataset for queued in classes for dataset in queued.shape.inputs}
    replicas = [replica for each in inputs for at in whole.replica_sites(each) if (replica := whole.replica(each, at))]
    return graph.with_replicas([whole.datasets[each] for each in inputs if each in whole.datasets], replicas)
