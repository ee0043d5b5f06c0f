"""Changes to a job, or to the federation, that might let the job start sooner: what each would make of the world."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import median

from broker.jobs.model import GpuRequest, Shape, TaskResources
from broker.placement.filters import Kind
from broker.placement.view import PlanInput, SiteView
from broker.placement.words import listed, span
from broker.records import Health
from topology.dataset import DatasetId, Replica
from topology.graph import Topology
from topology.link import Link
from topology.resources import Resources
from topology.room import Room
from topology.site import Admission, Pool

MOST_SITES = 5
"""Sites of which it is tried what each kind of change would make."""
LEAST_PART = 0.1
"""Of a pool's nodes that are added where others wait for it too."""
USUAL_GBPS = 10.0
"""Of a new link where there is none to compare with."""


@dataclass(frozen=True, slots=True)
class Change:
    """What changes, in words, and what is judged then: another shape, or another view of one site, which is then the only one
    that matters, with another topology where that changes. `kind` is what the best of several is chosen by. In a pool that
    grows, `growth` is how many times as many nodes it has."""

    kind: str
    text: str
    shape: Shape
    view: SiteView | None = None
    topology: Topology | None = None
    growth: tuple[str, float] | None = None


def of_job(shape: Shape, kept_hours: float) -> Iterator[Change]:
    """Other shapes. `kept_hours` is the longest run time for which there is room that is kept for an earlier job; 0 for none."""
    rules, each = shape.sites, shape.resources
    if rules.regions:
        yield Change("region", "any region", replace(shape, sites=replace(rules, regions=())))
    if rules.names:
        yield Change("site", "any site", replace(shape, sites=replace(rules, names=())))
    if rules.exclude:
        text = f"without excluding {listed(list(rules.exclude), MOST_SITES, ', ')}"
        yield Change("exclude", text, replace(shape, sites=replace(rules, exclude=())))
    if rules.fabric:
        yield Change("fabric", f"without fabric {rules.fabric}", replace(shape, sites=replace(rules, fabric=None)))
    if rules.file_system:
        text = f"without file system {rules.file_system}"
        yield Change("file-system", text, replace(shape, sites=replace(rules, file_system=None)))
    if rules.prefer:
        yield Change("prefer", "without preferring any site", replace(shape, sites=replace(rules, prefer=())))
    if rules.affinity is not None:
        yield Change("affinity", f"without affinity {rules.affinity}", replace(shape, sites=replace(rules, affinity=None)))
    if rules.spread is not None:
        yield Change("spread", f"without spread {rules.spread.word}", replace(shape, sites=replace(rules, spread=None)))
    if shape.max_cost is not None:
        yield Change("max-cost", "without max_cost", replace(shape, max_cost=None))
    if each.gpus.types:
        yield Change("gpu-type", "GPUs of any type", _with(shape, replace(each, gpus=GpuRequest(each.gpus.count))))
    if each.gpus.count > 1:
        half = replace(each.gpus, count=each.gpus.count // 2)
        yield Change(
            "gpus", f"{half.count} {'GPU' if half.count == 1 else 'GPUs'} a task", _with(shape, replace(each, gpus=half))
        )
    if shape.tasks > 1:
        half_tasks = shape.tasks // 2
        text = f"{half_tasks} {'task' if half_tasks == 1 else 'tasks'}"
        yield Change("tasks", text, replace(shape, tasks=half_tasks))
    if not each.gpus.count and each.cpus > 1:
        yield Change("cpus", f"{each.cpus / 2:g} cpus a task", _with(shape, replace(each, cpus=each.cpus / 2)))
    if kept_hours:
        text = f"a run time of at most {span(kept_hours)}"
        yield Change("run-time", text, replace(shape, run_time_s=kept_hours * 3600))


def of_admission(shape: Shape, given: PlanInput) -> Iterator[Change]:
    """Sites that take no jobs now do."""
    closed = [view for view in given.sites if view.site.admission is not Admission.OPEN]
    down = [view for view in given.sites if view.is_lost or not view.health.takes_jobs]
    for view in closed[:MOST_SITES]:
        opened = replace(view, site=replace(view.site, admission=Admission.OPEN))
        yield Change("admission", f"uncordon {view.site.name}", shape, opened)
    for view in down[:MOST_SITES]:
        rooms = view.rooms or {pool.name: pool.empty for pool in view.site.pools}
        up = replace(view, health=Health.UP, is_lost=False, rooms=rooms)
        yield Change("health", f"{view.site.name} up again", shape, up)


def of_nodes(shape: Shape, view: SiteView, name: str, fit: int | None, *, is_behind: bool) -> Iterator[Change]:
    """More nodes in a pool where `fit` of the tasks would start now (None: where the job is too large for it): as many as the
    job lacks, or, where others are before it, as would be felt."""
    pool = view.site.pool(name)
    each = max((task.times_in(pool.per_node) for task in _tasks(shape, pool)), default=0) if pool else 0
    if pool is None or not each:
        return
    fit = max(pool.empty.fit(task) for task in _tasks(shape, pool)) if fit is None else fit
    lacking = math.ceil((shape.tasks - (fit if fit < shape.tasks else 0)) / each)
    more = max(lacking, math.ceil(LEAST_PART * pool.nodes)) if is_behind else lacking
    grown = replace(pool, nodes=pool.nodes + more)
    pools = tuple(grown if each.name == name else each for each in view.site.pools)
    room = Room.of((*view.rooms.get(name, Room()).groups, (pool.per_node, more)))
    larger = replace(view, site=replace(view.site, pools=pools), rooms={**view.rooms, name: room})
    text = f"{more} more {'node' if more == 1 else 'nodes'} in {view.site.name}/{name}"
    yield Change("nodes", text, shape, larger, growth=(name, grown.nodes / pool.nodes))


def of_data(shape: Shape, given: PlanInput, sites: list[str], kinds: Mapping[str, set[Kind]]) -> Iterator[Change]:
    """Copies of missing inputs at these sites and, where no route brings them there, links."""
    views = {view.site.name: view for view in given.sites}
    for site in sites[:MOST_SITES]:
        missing = [each for each in shape.inputs if each in given.topology.datasets and not given.topology.replica(each, site)]
        if not missing:
            continue
        text = f"a replica of {listed([str(each) for each in missing], MOST_SITES, ' and ')} at {site}"
        yield Change("replica", text, shape, views[site], _with_copies(given.topology, shape.inputs, missing, site))
        source = next(iter(given.topology.replica_sites(missing[0])), None)
        if source and kinds.get(site) == {Kind.NO_SOURCE}:
            link = Link(source, site, _usual_gbps(given.topology))
            text = f"a link of {link.bandwidth_gbps:g} Gbps from {source} to {site}"
            yield Change("link", text, shape, views[site], _with_link(given.topology, shape.inputs, link))


def _with(shape: Shape, resources: TaskResources) -> Shape:
    return replace(shape, resources=resources)


def _tasks(shape: Shape, pool: Pool) -> Iterator[Resources]:
    kinds = [kind for kind, _ in pool.per_node.gpus] if shape.resources.gpus.count else [None]
    return (shape.resources.on(kind) for kind in kinds)


def _with_copies(topology: Topology, inputs: tuple[DatasetId, ...], missing: list[DatasetId], site: str) -> Topology:
    copies = [Replica(each, site, "") for each in missing]
    return topology.with_replicas(topology.datasets.values(), [*_replicas(topology, inputs), *copies])


def _with_link(topology: Topology, inputs: tuple[DatasetId, ...], link: Link) -> Topology:
    links = [*topology.links.values(), link]
    return Topology.of(topology.sites.values(), links, topology.datasets.values(), _replicas(topology, inputs))


def _replicas(topology: Topology, inputs: tuple[DatasetId, ...]) -> list[Replica]:
    found = [topology.replica(each, site) for each in inputs for site in topology.replica_sites(each)]
    return [replica for replica in found if replica]


def _usual_gbps(topology: Topology) -> float:
    return median(link.bandwidth_gbps for link in topology.links.values()) if topology.links else USUAL_GBPS
