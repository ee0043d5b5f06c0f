"""A scenario of the federation as it might be: other sites, nodes, prices, links, electricity and weights. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from broker.documents.faults import suggestion
from broker.documents.whatif import LinkChange, NodesChange, PriceChange, WhatIfBody
from broker.errors import Fault, Invalid
from broker.placement.view import TenantView
from broker.simulator.scenario import Change, NodesLost, Scenario, SiteLost
from topology.graph import Topology
from topology.link import Link
from topology.room import Room
from topology.site import Site


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
        tenants=_weighed(scenario.tenants, body.weights),
        rooms=_with_nodes(scenario, body.nodes),
        changes=(*scenario.changes, *_losses(body)),
    )


def _faults(scenario: Scenario, body: WhatIfBody) -> Iterable[Fault]:
    sites, tenants = scenario.topology.sites, _tenants(scenario)
    named = [(f"lose_sites.{number}", name) for number, name in enumerate(body.lose_sites)]
    named += [(f"nodes.{number}.site", each.site) for number, each in enumerate(body.nodes)]
    named += [(f"prices.{number}.site", each.site) for number, each in enumerate(body.prices)]
    named += [(f"carbon.{name}", name) for name in body.carbon]
    for number, way in enumerate(body.links):
        named += [(f"links.{number}.from", way.source), (f"links.{number}.to", way.target)]
    yield from (Fault(field, _unknown("site", name, sites)) for field, name in named if name not in sites)
    gone = Counter[tuple[str, str]]()
    for nodes in body.nodes:
        gone[nodes.site, nodes.pool] -= nodes.more
    for number, nodes in enumerate(body.nodes):
        if nodes.site in sites:
            yield from _nodes_faults(f"nodes.{number}", nodes, sites[nodes.site], gone[nodes.site, nodes.pool])
    for number, price in enumerate(body.prices):
        if price.site in sites:
            yield from _price_faults(f"prices.{number}", price, sites[price.site])
    yield from _link_faults(scenario.topology.links, body.links)
    yield from (Fault(f"weights.{name}", _unknown("tenant", name, tenants)) for name in body.weights if name not in tenants)


def _nodes_faults(field: str, nodes: NodesChange, site: Site, gone: int) -> Iterable[Fault]:
    pool = site.pool(nodes.pool)
    if pool is None:
        yield Fault(f"{field}.pool", _unknown(f"pool of {site.name}", nodes.pool, [each.name for each in site.pools]))
    elif gone > pool.nodes:
        yield Fault(f"{field}.more", f"{nodes.pool} has {pool.nodes} nodes, and {gone} are to go: name no more than there are")


def _price_faults(field: str, price: PriceChange, site: Site) -> Iterable[Fault]:
    kinds = {kind for pool in site.pools for kind, _ in pool.per_node.gpus}
    for kind in price.gpu_hour:
        if kind not in kinds:
            yield Fault(f"{field}.gpu_hour.{kind}", _unknown(f"GPU of {site.name}", kind, kinds))


def _link_faults(known: Mapping[str, Link], changes: Sequence[LinkChange]) -> Iterable[Fault]:
    names = {*known, *(_name(each) for each in changes if each.bandwidth_gbps is not None)}
    for number, each in enumerate(changes):
        if each.source == each.target:
            yield Fault(f"links.{number}.to", f"a link leads to another site: {each.source} has its own data at hand")
        elif _name(each) not in names:
            cure = f"no link leads from {each.source} to {each.target}: give the new one some"
            yield Fault(f"links.{number}.bandwidth_gbps", cure)


def _name(change: LinkChange) -> str:
    return f"{change.source}:{change.target}"


def _tenants(scenario: Scenario) -> list[str]:
    """All that are declared, or have jobs."""
    jobs = (*scenario.arrivals, *(each.arrival for each in scenario.begun))
    return sorted({*(tenant.name for tenant in scenario.tenants), *(job.shape.tenant for job in jobs)})


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    return f"no {what} is named {name}: {suggestion(name, tuple(sorted(known)))}"


def _with_changes(site: Site, body: WhatIfBody) -> Site:
    more = Counter[str]()
    for change in body.nodes:
        more[change.pool] += max(change.more, 0) if change.site == site.name else 0
    pools = tuple(replace(pool, nodes=pool.nodes + more[pool.name]) for pool in site.pools)
    for each in body.prices:
        if each.site == site.name:
            site = _priced(site, each)
    return replace(site, pools=pools, carbon_g_per_kwh=body.carbon.get(site.name, site.carbon_g_per_kwh))


def _priced(site: Site, change: PriceChange) -> Site:
    price = site.price
    cpu_hour = price.cpu_hour if change.cpu_hour is None else change.cpu_hour
    return replace(site, price=replace(price, cpu_hour=cpu_hour, gpu_hour={**price.gpu_hour, **change.gpu_hour}))


def _with_links(links: Mapping[str, Link], changes: Sequence[LinkChange]) -> dict[str, Link]:
    found = dict(links)
    for each in sorted(changes, key=lambda change: change.bandwidth_gbps is None):  # a new link before its price
        name = _name(each)
        link = found.get(name) or Link(each.source, each.target, each.bandwidth_gbps or 0.0)
        link = link if each.bandwidth_gbps is None else replace(link, bandwidth_gbps=each.bandwidth_gbps)
        found[name] = link if each.price_per_gib is None else replace(link, price_per_gib=each.price_per_gib)
    return found


def _with_nodes(scenario: Scenario, changes: Sequence[NodesChange]) -> Mapping[tuple[str, str], Room]:
    rooms = dict(scenario.rooms)
    for each in changes:
        pool = scenario.topology.sites[each.site].pool(each.pool)
        key = (each.site, each.pool)
        if pool is not None and each.more > 0 and key in rooms:
            rooms[key] = Room.of((*rooms[key].groups, (pool.per_node, each.more)))
    return rooms


def _losses(body: WhatIfBody) -> Iterable[Change]:
    yield from (SiteLost(0.0, name, math.inf) for name in body.lose_sites)
    yield from (NodesLost(0.0, each.site, each.pool, -each.more, math.inf) for each in body.nodes if each.more < 0)


def _weighed(tenants: Sequence[TenantView], weights: Mapping[str, float]) -> tuple[TenantView, ...]:
    declared = {tenant.name: tenant for tenant in tenants}
    changed = {name: replace(declared.get(name, TenantView(name)), weight=weight) for name, weight in weights.items()}
    return tuple((declared | changed).values())
