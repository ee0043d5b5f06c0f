"""What would come of a change: the same queue simulated over a federation as it is, and as it might be. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from broker.documents.faults import suggestion
from broker.documents.whatif import LinkChange, NodesChange, PriceChange, WhatIfBody
from broker.errors import Fault, Invalid
from broker.jobs.model import Shape
from broker.placement.view import TenantView
from broker.placement.words import span
from broker.simulator.engine import simulate
from broker.simulator.outcome import Ran
from broker.simulator.policies import Ours
from broker.simulator.scenario import Change, NodesLost, Scenario, SiteLost
from topology.graph import Topology
from topology.link import Link
from topology.site import Site

MOST_CLASSES = 20
"""Those that are told, of which most changes."""


@dataclass(frozen=True, slots=True)
class Fares:
    """How some jobs fare: means and the last end in hours from now, of those that end; money in the federation's currency."""

    jobs: int
    never_end: int
    mean_start_h: float
    mean_end_h: float
    last_end_h: float
    money: float
    wan_gib: float


@dataclass(frozen=True, slots=True)
class Compared:
    """Some jobs as things are, and as they might be."""

    name: str
    before: Fares
    after: Fares


@dataclass(frozen=True, slots=True)
class Answer:
    """Of all that waits and runs, by tenant, and by the classes of equal jobs of which most changes. `moved` counts jobs that run
    now and would have to begin again. `notes` say what was simplified."""

    whole: Compared
    tenants: tuple[Compared, ...]
    classes: tuple[Compared, ...]
    moved: int
    notes: tuple[str, ...]


def what_if(scenario: Scenario, changed: Scenario) -> Answer:
    """Both simulated to their ends with the planner."""
    before, after = (simulate(each, Ours()).jobs for each in (scenario, changed))
    shapes = {each.name: each.shape for each in (*scenario.arrivals, *(begun.arrival for begun in scenario.begun))}
    pairs = list(zip(before, after, strict=True))
    begun = {each.arrival.name for each in scenario.begun}
    return Answer(
        whole=_compared("all", pairs),
        tenants=tuple(_compared(name, found) for name, found in sorted(_by(pairs, lambda job: job.tenant).items())),
        classes=tuple(_of_classes(pairs, shapes)),
        moved=sum(now.attempts > was.attempts for was, now in pairs if was.name in begun),
        notes=(scenario.notes,),
    )


def changed(scenario: Scenario, body: WhatIfBody) -> Scenario:
    """The federation as it might be. Raises Invalid with every change that is of what is not there."""
    faults = list(_faults(scenario, body))
    if faults:
        raise Invalid(faults=faults)
    graph = scenario.topology
    sites = [_with_changes(site, body) for site in graph.sites.values()]
    links = _with_links(graph.links, body.links)
    datasets = list(graph.datasets.values())
    replicas = [found for each in datasets for at in graph.replica_sites(each.id) if (found := graph.replica(each.id, at))]
    return replace(
        scenario,
        topology=Topology.of(sites, links.values(), datasets, replicas),
        tenants=tuple(_weighed(tenant, body.weights) for tenant in scenario.tenants),
        rooms=_with_nodes(scenario, body.nodes),
        changes=(*scenario.changes, *_losses(body)),
    )


def _faults(scenario: Scenario, body: WhatIfBody) -> Iterable[Fault]:
    sites, tenants = scenario.topology.sites, [tenant.name for tenant in scenario.tenants]
    named = [(f"lose_sites.{number}", name) for number, name in enumerate(body.lose_sites)]
    named += [(f"nodes.{number}.site", each.site) for number, each in enumerate(body.nodes)]
    named += [(f"prices.{number}.site", each.site) for number, each in enumerate(body.prices)]
    for number, way in enumerate(body.links):
        named += [(f"links.{number}.from", way.source), (f"links.{number}.to", way.target)]
    yield from (Fault(field, _unknown("site", name, sites)) for field, name in named if name not in sites)
    for number, nodes in enumerate(body.nodes):
        site = sites.get(nodes.site)
        pool = site.pool(nodes.pool) if site else None
        if site and pool is None:
            yield Fault(f"nodes.{number}.pool", _unknown(f"pool of {site.name}", nodes.pool, [each.name for each in site.pools]))
        elif pool and pool.nodes + nodes.more < 0:
            yield Fault(f"nodes.{number}.more", f"{nodes.pool} has {pool.nodes} nodes: no more than that can go")
    for number, link in enumerate(body.links):
        if f"{link.source}:{link.target}" not in scenario.topology.links and link.bandwidth_gbps is None:
            cure = f"no link leads from {link.source} to {link.target}: give the new one some"
            yield Fault(f"links.{number}.bandwidth_gbps", cure)
    yield from (Fault(f"weights.{name}", _unknown("tenant", name, tenants)) for name in body.weights if name not in tenants)


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    return f"no {what} is named {name}: {suggestion(name, tuple(sorted(known)))}"


def _with_changes(site: Site, body: WhatIfBody) -> Site:
    more = {each.pool: each.more for each in body.nodes if each.site == site.name and each.more > 0}
    pools = tuple(replace(pool, nodes=pool.nodes + more.get(pool.name, 0)) for pool in site.pools)
    for each in body.prices:
        if each.site == site.name:
            site = _priced(site, each)
    return replace(site, pools=pools)


def _priced(site: Site, change: PriceChange) -> Site:
    price = site.price
    cpu_hour = price.cpu_hour if change.cpu_hour is None else change.cpu_hour
    return replace(site, price=replace(price, cpu_hour=cpu_hour, gpu_hour={**price.gpu_hour, **change.gpu_hour}))


def _with_links(links: Mapping[str, Link], changes: Sequence[LinkChange]) -> dict[str, Link]:
    found = dict(links)
    for each in changes:
        name = f"{each.source}:{each.target}"
        link = found.get(name) or Link(each.source, each.target, each.bandwidth_gbps or 0.0)
        link = link if each.bandwidth_gbps is None else replace(link, bandwidth_gbps=each.bandwidth_gbps)
        found[name] = link if each.price_per_gib is None else replace(link, price_per_gib=each.price_per_gib)
    return found


def _with_nodes(scenario: Scenario, changes: Sequence[NodesChange]) -> Mapping[tuple[str, str], Any]:
    rooms = dict(scenario.rooms)
    for each in changes:
        pool = scenario.topology.sites[each.site].pool(each.pool)
        key = (each.site, each.pool)
        if pool is not None and each.more > 0 and key in rooms:
            rooms[key] = rooms[key].of((*rooms[key].groups, (pool.per_node, each.more)))
    return rooms


def _losses(body: WhatIfBody) -> Iterable[Change]:
    yield from (SiteLost(0.0, name, math.inf) for name in body.lose_sites)
    yield from (NodesLost(0.0, each.site, each.pool, -each.more, math.inf) for each in body.nodes if each.more < 0)


def _weighed(tenant: TenantView, weights: Mapping[str, float]) -> TenantView:
    return replace(tenant, weight=weights.get(tenant.name, tenant.weight))


Pairs = Sequence[tuple[Ran, Ran]]


def _by(pairs: Pairs, key: Callable[[Ran], Any]) -> dict[Any, list[tuple[Ran, Ran]]]:
    found: dict[Any, list[tuple[Ran, Ran]]] = {}
    for pair in pairs:
        found.setdefault(key(pair[0]), []).append(pair)
    return found


def _of_classes(pairs: Pairs, shapes: Mapping[str, Shape]) -> list[Compared]:
    found = [_compared(_words(shape), some) for shape, some in _by(pairs, lambda job: shapes[job.name]).items()]
    changing = [each for each in found if each.before != each.after]
    return sorted(changing, key=_change, reverse=True)[:MOST_CLASSES]


def _change(each: Compared) -> tuple[float, float, str]:
    before, after = each.before, each.after
    hours = abs(after.mean_end_h - before.mean_end_h) * before.jobs
    return abs(after.never_end - before.never_end), hours + abs(after.money - before.money), each.name


def _compared(name: str, pairs: Pairs) -> Compared:
    return Compared(name, _fares([was for was, _ in pairs]), _fares([now for _, now in pairs]))


def _fares(jobs: Sequence[Ran]) -> Fares:
    ended = [job for job in jobs if job.ended_at is not None]
    ends = [(job.ended_at or 0.0) / 3600 for job in ended]
    return Fares(
        jobs=len(jobs),
        never_end=len(jobs) - len(ended),
        mean_start_h=fmean((job.started_at or 0.0) / 3600 for job in ended) if ended else 0.0,
        mean_end_h=fmean(ends) if ends else 0.0,
        last_end_h=max(ends, default=0.0),
        money=sum(job.compute_money + job.egress_money for job in jobs),
        wan_gib=sum(job.wan_gib for job in jobs),
    )


def _words(shape: Shape) -> str:
    """A class, for people."""
    each, gpus = shape.resources, shape.resources.gpus
    size = f"{each.cpus:g} cpus, {each.memory_gib:g} GiB"
    size += f", {gpus.count} {' or '.join(gpus.types) or 'any'} GPUs" if gpus.count else ""
    gang = f"{shape.tasks} x " if shape.tasks > 1 else ""
    reads = f", reads {' and '.join(sorted(each.name for each in shape.inputs))}" if shape.inputs else ""
    return f"{shape.tenant}: {gang}{size}, {span(shape.run_time_s / 3600)}{reads}"
