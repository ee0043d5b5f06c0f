"""One class at one site: what speaks against it, or the ways to run it there with their costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.jobs.model import Cost, Shape
from broker.placement.costs import Staging, cost_without_wait, staging
from broker.placement.filters import LASTING_RULES, PASSING_RULES, Objection, gpu_types, pool_objection, site_objections
from broker.placement.pools import PoolState
from broker.placement.shares import Shares
from broker.placement.view import SiteView
from topology.graph import Topology
from topology.resources import Resources
from topology.site import Pool


@dataclass(frozen=True, slots=True)
class Grounds:
    """What does not change while a plan is made: objections to the site as a whole, or its pools that would do, each with the
    GPU type that tasks would use there."""

    view: SiteView
    objections: tuple[Objection, ...]
    pools: tuple[tuple[Pool, str | None], ...]


@dataclass(frozen=True, slots=True)
class Option:
    """One way to run a job: in a pool of a site, with tasks on GPUs of one type. `cost` is without waiting, and `weighed` that
    cost by the job's objective."""

    view: SiteView
    state: PoolState
    gpu_type: str | None
    task: Resources
    tasks: int
    cost: Cost
    weighed: float
    staging: Staging

    @property
    def name(self) -> tuple[str, str, str]:
        """Site, pool and GPU type: orders what costs the same."""
        return (self.view.site.name, self.state.name, self.gpu_type or "")

    @property
    def busy_hours(self) -> float:
        """How long room is taken from the placement on: while inputs come, and while it runs."""
        return self.cost.staging_hours + self.cost.run_hours

    def capacity(self) -> int:
        """How many jobs could be placed this way now."""
        return self.state.capacity(self.task, self.tasks, self.busy_hours)

    def wait_hours(self, waited_hours: float) -> float:
        """How long a job would wait before it can be placed this way: not at all where there is room."""
        if self.capacity():
            return 0.0
        return self.state.wait_hours(self.task, self.tasks, self.cost.run_hours, waited_hours)

    def share_hours(self) -> float:
        """How long the whole pool works on one such job."""
        return self.state.share_hours(self.task, self.tasks, self.cost.run_hours)


def grounds(shape: Shape, view: SiteView) -> Grounds:
    """What the hard rules say, that look at the site alone."""
    objections = site_objections(shape, view, LASTING_RULES + PASSING_RULES)
    pairs = [(pool, gpu_type) for pool in view.site.pools for gpu_type in gpu_types(shape, pool)]
    against = [pool_objection(shape, view.site, pool, gpu_type) for pool, gpu_type in pairs]
    fitting = tuple(pair for pair, objection in zip(pairs, against, strict=True) if objection is None)
    if not fitting:
        objections += tuple(dict.fromkeys(objection for objection in against if objection))
    return Grounds(view, objections, () if objections else fitting)


def options(
    shape: Shape, at: Grounds, pools: Mapping[str, PoolState], topology: Topology, shares: Shares, now: float
) -> tuple[Option, ...] | Objection:
    """The ways to run a class at a site that nothing speaks against; an objection where its inputs cannot be brought."""
    site = at.view.site
    needed = staging(shape, site.name, topology, shares, now)
    if isinstance(needed, Objection):
        return needed
    found = []
    for pool, gpu_type in at.pools:
        cost = cost_without_wait(shape, site, pool, gpu_type, needed)
        task = shape.resources.on(gpu_type)
        weighed = round(cost.weighed(shape.objective), 9)
        found.append(Option(at.view, pools[pool.name], gpu_type, task, shape.tasks, cost, weighed, needed))
    return tuple(found)

