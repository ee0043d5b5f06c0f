"""What may go otherwise than composed: pure, from a scenario to a scenario, seeded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from broker.simulator.scenario import Arrival, Bandwidth, Carbon, Change, Maintenance, NodesLost, Scenario, SiteLost
from broker.simulator.series import Series
from topology.graph import Topology
from topology.link import Link

HOUR = 3600.0
DRAIN = 48 * HOUR
"""What is recorded over time is played for so long after the last arrival."""


def with_estimates_off(scenario: Scenario, factor: float, seed: int) -> Scenario:
    """Run times are expected wrong by a factor of up to `factor`, up or down, equally likely by its logarithm; in quarters of it,
    so that classes stay few. Raises ValueError for a factor below 1."""
    if factor < 1:
        raise ValueError(f"factor {factor}: at least 1")
    chance = random.Random(f"estimates {seed}")
    steps = [factor ** (quarter / 4) for quarter in range(-4, 5)]

    def off(arrival: Arrival) -> Arrival:
        return replace(arrival, shape=replace(arrival.shape, run_time_s=arrival.shape.run_time_s * chance.choice(steps)))

    noted = f"{scenario.notes}; estimates off by up to {factor:g}x"
    return replace(scenario, arrivals=tuple(off(arrival) for arrival in scenario.arrivals), notes=noted)


def with_links_at(scenario: Scenario, part: float) -> Scenario:
    """Every link has this part of its bandwidth. Raises ValueError for nothing, or less."""
    if part <= 0:
        raise ValueError(f"part {part}: more than 0")
    graph = scenario.topology
    links = [replace(link, bandwidth_gbps=link.bandwidth_gbps * part) for link in graph.links.values()]
    return replace(scenario, topology=_with_links(graph, links), notes=f"{scenario.notes}; links at {part:g}")


def with_site_lost(scenario: Scenario, hours: float = 2.0) -> Scenario:
    """The largest site is lost for some hours, from the moment on when the most work has come in the hour before."""
    site = max(scenario.topology.sites.values(), key=lambda site: (sum(p.nodes * p.per_node.cpus for p in site.pools), site.name))
    at = _peak(scenario)
    lost = SiteLost(at, site.name, at + hours * HOUR)
    return _with_changes(scenario, [lost], f"{site.name} lost for {hours:g} h from {at / HOUR:.1f} h on")


def with_spot_losses(scenario: Scenario, per_day: float, seed: int) -> Scenario:
    """So many times a day, in the mean, half the nodes of some pool are taken back for an hour."""
    chance, end = random.Random(f"spot {seed}"), _end(scenario)
    pools = [(site.name, pool) for _, site in sorted(scenario.topology.sites.items()) for pool in site.pools]
    changes: list[Change] = []
    at = chance.expovariate(per_day / (24 * HOUR))
    while at < end:
        name, pool = chance.choice(pools)
        changes.append(NodesLost(at, name, pool.name, max(pool.nodes // 2, 1), at + HOUR))
        at += chance.expovariate(per_day / (24 * HOUR))
    return _with_changes(scenario, changes, f"{len(changes)} spot losses")


def with_maintenance(scenario: Scenario, seed: int, hours: float = 4.0) -> Scenario:
    """Every site takes no new jobs for some hours once, at a time of its own."""
    chance, end = random.Random(f"maintenance {seed}"), _end(scenario)
    found = [(name, chance.uniform(0, end)) for name in sorted(scenario.topology.sites)]
    return _with_changes(scenario, [Maintenance(at, name, at + hours * HOUR) for name, at in found], "maintenance at each site")


def with_varying_links(scenario: Scenario, seed: int, every_hours: float = 0.5) -> Scenario:
    """A tenth of the links get another bandwidth every so often: a quarter to the whole of what they began with."""
    chance, end = random.Random(f"links {seed}"), _end(scenario)
    links = [link for _, link in sorted(scenario.topology.links.items())]
    changes: list[Change] = []
    for step in range(1, int(end / (every_hours * HOUR)) + 1):
        at, some = step * every_hours * HOUR, chance.sample(links, len(links) // 10)
        changes += [Bandwidth(at, link.name, link.bandwidth_gbps * chance.uniform(0.25, 1.0)) for link in some]
    return _with_changes(scenario, changes, "links that vary")


def with_spot_traces(scenario: Scenario, traces: Sequence[Series], seed: int) -> Scenario:
    """Half the nodes of each pool are spot machines: gone whenever a trace says that none could be had in its zone. Traces are
    dealt out to the sites by name, in turn; all begin at one moment of theirs, drawn."""
    begin = _beginning(traces, random.Random(f"spot traces {seed}"))
    end = _end(scenario) + DRAIN
    changes: list[Change] = []
    for number, (name, site) in enumerate(sorted(scenario.topology.sites.items())):
        told = [*traces[number % len(traces)].changes(begin, end), (end, 0.0)]
        for (at, is_gone), (until, _) in pairwise(told):
            if is_gone:
                changes += [NodesLost(at, name, pool.name, max(pool.nodes // 2, 1), until) for pool in site.pools]
    return _with_changes(scenario, changes, f"half of each pool lost as spot machines were: {_dealt(scenario, traces, begin)}")


def with_carbon_traces(scenario: Scenario, traces: Sequence[Series], seed: int) -> Scenario:
    """Each site's electricity is as recorded: series are dealt out to the sites by name, in turn; all begin at one moment of
    theirs, drawn."""
    begin = _beginning(traces, random.Random(f"carbon traces {seed}"))
    end = _end(scenario) + DRAIN
    changes: list[Change] = []
    for number, name in enumerate(sorted(scenario.topology.sites)):
        changes += [Carbon(at, name, value) for at, value in traces[number % len(traces)].changes(begin, end)]
    return _with_changes(scenario, changes, f"electricity as recorded: {_dealt(scenario, traces, begin)}")


def _beginning(traces: Sequence[Series], chance: random.Random) -> float:
    return chance.randrange(max(int(min(len(each.values) * each.step_s for each in traces) / HOUR), 1)) * HOUR


def _dealt(scenario: Scenario, traces: Sequence[Series], begin: float) -> str:
    sites = sorted(scenario.topology.sites)
    dealt = [f"{each.name} to {' '.join(sites[number :: len(traces)])}" for number, each in enumerate(traces[: len(sites)])]
    return f"{', '.join(dealt)}, from their hour {begin / HOUR:g} on"


def _with_links(graph: Topology, links: list[Link]) -> Topology:
    datasets = list(graph.datasets.values())
    replicas = [found for each in datasets for site in graph.replica_sites(each.id) if (found := graph.replica(each.id, site))]
    return Topology.of(graph.sites.values(), links, datasets, replicas)


def _with_changes(scenario: Scenario, changes: list[Change], words: str) -> Scenario:
    together = sorted((*scenario.changes, *changes), key=lambda change: change.at)
    return replace(scenario, changes=tuple(together), notes=f"{scenario.notes}; {words}")


def _end(scenario: Scenario) -> float:
    return scenario.arrivals[-1].at if scenario.arrivals else 0.0


def _peak(scenario: Scenario) -> float:
    """The end of the hour in which the most work came."""
    arrivals, first, work = scenario.arrivals, 0, 0.0
    best, at = -1.0, 0.0
    for arrival in arrivals:
        work += arrival.run_time_s * arrival.shape.tasks
        while arrivals[first].at < arrival.at - HOUR:
            work -= arrivals[first].run_time_s * arrivals[first].shape.tasks
            first += 1
        if work > best:
            best, at = work, arrival.at
    return at
