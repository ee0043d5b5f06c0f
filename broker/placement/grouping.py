"""The sites of a federation in groups, each planned by itself: what is well linked and holds the same data stays together.

Groups grow side by side from sites far from each other, the one of least room next, as in greedy graph growing (Karypis and
Kumar, SIAM Journal on Scientific Computing 20, 1998); sites then move to where they are linked better, as long as the groups stay
about even. A link belongs to the group of its target: no two groups can spend one link, and data comes in from the sites beside a
group.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from broker.placement.arrays import Floats, Places
from broker.placement.routes import HOURS_AT_ONE_GBPS
from broker.placement.view import PlanInput
from broker.records import Booking
from topology.graph import Topology
from topology.resources import Resources
from topology.site import Site

SLACK = 0.1
"""So much more or less than its even part may the room of a group be."""
ROUNDS = 4
"""Sites are looked at so often for a better group."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Sites by group, for as long as sites and links stand.

    `sites` are the names of all, sorted, and `of` the group of each. `graphs` are the topologies of the groups: all sites, with
    the links that are theirs. `hours` and `money` are what one GiB takes at the least from each site to each, over links of the
    target's group; infinite where those do not lead there.
    """

    sites: tuple[str, ...]
    of: Places
    graphs: tuple[Topology, ...]
    hours: Floats
    money: Floats

    def __len__(self) -> int:
        return len(self.graphs)

    def group(self, site: str) -> int:
        """The group of a site by its name. Raises LookupError for one of none."""
        place = bisect_left(self.sites, site)
        if self.sites[place : place + 1] != (site,):
            raise LookupError(f"site {site} is in no group")
        return int(self.of[place])

    def is_for(self, booking: Booking, group: int) -> bool:
        """Whether a transfer goes to a group, or takes a share of its links."""
        is_there = booking.target in self.sites and self.group(booking.target) == group
        return is_there or any(link in self.graphs[group].links for link in booking.links)


def grouped(given: PlanInput, count: int) -> Groups:
    """`count` groups, or as many as there are sites. The same input in any order gives the same groups."""
    views = sorted(given.sites, key=lambda view: view.site.name)
    sites = [view.site for view in views]
    names = tuple(site.name for site in sites)
    rooms = _rooms(sites)
    near = _linked(names, given.topology) + _sharing(names, given)
    of = _settled(_grown(near, rooms, max(min(count, len(names)), 1)), near, rooms)
    graphs = _graphs(names, of, given.topology)
    hours, money = _ways(names, of, given.topology)
    return Groups(names, of, graphs, hours, money)


def _rooms(sites: Sequence[Site]) -> Floats:
    """How much of the federation each site is, as declared: its parts of all cpus, memory and GPUs together."""
    wholes = [sum((pool.per_node * pool.nodes for pool in site.pools), Resources()) for site in sites]
    amounts = np.array([(whole.cpus, whole.memory_gib, float(whole.gpu_count)) for whole in wholes]).reshape(-1, 3)
    totals = amounts.sum(axis=0)
    rooms: Floats = (amounts / np.where(totals > 0, totals, 1.0)).sum(axis=1)
    return rooms


def _linked(names: Sequence[str], topology: Topology) -> Floats:
    """How well each two sites are linked, both ways together: 1 for the best."""
    places = {name: place for place, name in enumerate(names)}
    near = np.zeros((len(names), len(names)))
    for link in topology.links.values():
        source, target = places.get(link.source), places.get(link.target)
        if source is not None and target is not None:
            near[source, target] += link.bandwidth_gbps
            near[target, source] += link.bandwidth_gbps
    return near / (near.max(initial=0.0) or 1.0)


def _sharing(names: Sequence[str], given: PlanInput) -> Floats:
    """How many jobs that wait read data that each two sites hold: 1 for the most."""
    places = {name: place for place, name in enumerate(names)}
    readers: dict[tuple[int, ...], int] = {}
    for queued in given.classes:
        for dataset in queued.shape.inputs:
            holders = tuple(places[site] for site in given.topology.replica_sites(dataset) if site in places)
            readers[holders] = readers.get(holders, 0) + queued.count
    near = np.zeros((len(names), len(names)))
    for holders, jobs in readers.items():
        near[np.ix_(holders, holders)] += jobs
    np.fill_diagonal(near, 0.0)
    return near / (near.max(initial=0.0) or 1.0)


def _grown(near: Floats, rooms: Floats, count: int) -> Places:
    of = np.full(len(rooms), -1, dtype=np.intp)
    taken = np.zeros(count)
    to_group = np.zeros((len(rooms), count))
    for number in range(len(rooms)):
        free = np.flatnonzero(of < 0)
        if number < count:
            group, site = number, int(free[_least(to_group[free].sum(axis=1), -rooms[free])])
        else:
            group = int(taken.argmin())
            site = int(free[_least(-to_group[free, group], -rooms[free])])
        of[site] = group
        taken[group] += rooms[site]
        to_group[:, group] += near[site]
    return of


def _least(first: Floats, then: Floats) -> int:
    """The place of the least, by `then` among equals."""
    return int(np.lexsort((then, first))[0]) if len(first) else 0


def _settled(of: Places, near: Floats, rooms: Floats) -> Places:
    """Groups in which sites have moved to where they are linked better."""
    of, count = of.copy(), int(of.max(initial=0)) + 1
    even = rooms.sum() / count
    taken = np.bincount(of, weights=rooms, minlength=count)
    to_group = near @ np.eye(count)[of]
    for _ in range(ROUNDS):
        moved = False
        for site, room in enumerate(rooms):
            here, best = int(of[site]), int(to_group[site].argmax())
            fits = taken[best] + room <= (1 + SLACK) * even and taken[here] - room >= (1 - SLACK) * even
            if fits and to_group[site, best] > to_group[site, here]:
                of[site], moved = best, True
                taken[here] -= room
                taken[best] += room
                to_group[:, here] -= near[site]
                to_group[:, best] += near[site]
        if not moved:
            break
    return of


def _graphs(names: Sequence[str], of: Places, topology: Topology) -> tuple[Topology, ...]:
    groups = dict(zip(names, of.tolist(), strict=True))
    links = topology.links.values()
    count = int(of.max(initial=0)) + 1
    return tuple(
        Topology.of(topology.sites.values(), [link for link in links if groups.get(link.target) == group], (), ())
        for group in range(count)
    )


def _ways(names: Sequence[str], of: Places, topology: Topology) -> tuple[Floats, Floats]:
    """Shortest ways by hours and by money (Floyd and Warshall), group by group."""
    places = {name: place for place, name in enumerate(names)}
    hours, money = (np.full((len(names), len(names)), np.inf) for _ in range(2))
    for link in topology.links.values():
        source, target = places.get(link.source), places.get(link.target)
        if source is not None and target is not None and link.bandwidth_gbps > 0:
            hours[source, target] = min(hours[source, target], HOURS_AT_ONE_GBPS / link.bandwidth_gbps)
            money[source, target] = min(money[source, target], link.price_per_gib)
    for each in (hours, money):
        np.fill_diagonal(each, 0.0)
        for group in range(int(of.max(initial=0)) + 1):
            inside = np.flatnonzero(of == group)
            columns = each[:, inside]
            for number, through in enumerate(inside):
                np.minimum(columns, columns[:, number, None] + columns[through], out=columns)
            each[:, inside] = columns
    return hours, money
