"""The topology: one frozen snapshot of sites, links, datasets and replicas, with the cheapest routes between sites.

Routes are found lazily, from one source at a time, and kept while sites and links stand: a change of replicas keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any

import networkx as nx

from topology.dataset import Dataset, DatasetId, Replica
from topology.link import GIB, Link, bytes_per_second
from topology.site import Site


class Metric(Enum):
    """What a route should have least of, summed over its links: hours per GiB with latency, or price per GiB; the other one
    decides between equals. The sum, and not the narrowest link alone, because a transfer occupies every link that it crosses:
    one link of 6 Gbps is preferred to two of 10.
    """

    TIME = "time"
    MONEY = "money"


@dataclass(frozen=True, slots=True)
class Route:
    """The links a transfer crosses, in order; none when source and target are one site."""

    links: tuple[Link, ...] = ()

    @property
    def bottleneck_gbps(self) -> float:
        """Bandwidth of the narrowest link; infinite without links."""
        return min((link.bandwidth_gbps for link in self.links), default=float("inf"))

    @property
    def latency_ms(self) -> float:
        """Sum over the links."""
        return sum(link.latency_ms for link in self.links)

    @property
    def price_per_gib(self) -> float:
        """Sum over the links: each sends the bytes on."""
        return sum(link.price_per_gib for link in self.links)


class Topology:
    """Where things are and how they are connected. Frozen; picklable without its kept routes."""

    def __init__(
        self,
        sites: Mapping[str, Site],
        links: Mapping[str, Link],
        datasets: Mapping[DatasetId, Dataset],
        replicas: Mapping[DatasetId, Mapping[str, Replica]],
        routes: _Routes | None = None,
    ) -> None:
        self.sites = sites
        self.links = links
        """By name, `source:target`; only those between known sites."""
        self.datasets = datasets
        self._replicas = replicas
        self._routes = routes or _Routes(links.values())

    @staticmethod
    def of(sites: Iterable[Site], links: Iterable[Link], datasets: Iterable[Dataset], replicas: Iterable[Replica]) -> Topology:
        """A snapshot from values in any order. Links and replicas that name unknown sites are left out."""
        known = {site.name: site for site in sorted(sites, key=lambda site: site.name)}
        named = {link.name: link for link in links if {link.source, link.target} <= known.keys()}
        joined = dict(sorted(named.items()))
        return Topology(known, joined, _by_id(datasets), _by_dataset(replicas, known))

    def with_replicas(self, datasets: Iterable[Dataset], replicas: Iterable[Replica]) -> Topology:
        """The same sites, links and kept routes, with other datasets and replicas."""
        return Topology(self.sites, self.links, _by_id(datasets), _by_dataset(replicas, self.sites), self._routes)

    def replica(self, dataset: DatasetId, site: str) -> Replica | None:
        """The whole copy of a dataset at a site."""
        return self._replicas.get(dataset, {}).get(site)

    def replica_sites(self, dataset: DatasetId) -> tuple[str, ...]:
        """Where whole copies of a dataset are, sorted."""
        return tuple(sorted(self._replicas.get(dataset, ())))

    def route(self, source: str, target: str, by: Metric = Metric.TIME) -> Route | None:
        """The cheapest way from one site to another; None when there is none."""
        return self._routes.find(source, target, by)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_routes": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._routes = _Routes(self.links.values())


class _Routes:
    """Routes found so far. One Dijkstra serves all targets of a source."""

    def __init__(self, links: Iterable[Link]) -> None:
        self._links = tuple(links)
        self._graph: Any = None
        self._found: dict[tuple[str, Metric], dict[str, Route]] = {}

    def find(self, source: str, target: str, by: Metric) -> Route | None:
        """See `Topology.route`."""
        if source == target:
            return Route()
        routes = self._found.get((source, by))
        if routes is None:
            routes = self._found[source, by] = self._from(source, by)
        return routes.get(target)

    def _from(self, source: str, by: Metric) -> dict[str, Route]:
        if self._graph is None:
            self._graph = _graph_of(self._links)
        if source not in self._graph:
            return {}
        paths: dict[str, list[str]] = nx.single_source_dijkstra_path(self._graph, source, weight=by.value)
        edges = self._graph.edges
        return {
            target: Route(tuple(edges[near, far]["link"] for near, far in pairwise(path)))
            for target, path in paths.items()
        }


def _graph_of(links: Iterable[Link]) -> Any:
    """A weight per metric on each edge; the other metric, scaled down, breaks ties."""
    graph: Any = nx.DiGraph()
    for link in links:
        hours = GIB / bytes_per_second(link.bandwidth_gbps) / 3600 + link.latency_ms / 3.6e6
        money = link.price_per_gib
        graph.add_edge(link.source, link.target, link=link, time=hours + money * 1e-9, money=money + hours * 1e-9)
    return graph


def _by_id(datasets: Iterable[Dataset]) -> Mapping[DatasetId, Dataset]:
    return {dataset.id: dataset for dataset in datasets}


def _by_dataset(replicas: Iterable[Replica], sites: Mapping[str, Site]) -> Mapping[DatasetId, Mapping[str, Replica]]:
    found: dict[DatasetId, dict[str, Replica]] = {}
    for replica in replicas:
        if replica.site in sites:
            found.setdefault(replica.dataset, {})[replica.site] = replica
    return found
