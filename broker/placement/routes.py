"""The ways from where a dataset is to every site at once, as arrays over all sites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from broker.placement.arrays import Floats, Places
from broker.placement.shares import LEAST_SHARE, Links, Shares
from topology.dataset import DatasetId
from topology.graph import Metric, Topology
from topology.link import GIB, bytes_per_second

HOURS_AT_ONE_GBPS = GIB / bytes_per_second(1.0) / 3600
"""Of one GiB."""


@dataclass(frozen=True, slots=True)
class Best:
    """For one dataset, by target: the source and the links of its best transfer, and what that costs. `is_open` says where
    there is one with at least the least share of its narrowest link free."""

    sources: tuple[str, ...]
    source: Places
    """Its place in `sources`."""
    links: Places
    """By target and hop."""
    gib: float
    money: Floats
    is_open: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


class Routes:
    """Routes over one set of sites and links, kept as they are found: the quickest and the least priced one from each source to
    each target. Arrays are by source, metric and target."""

    def __init__(self, topology: Topology, sites: Sequence[str]) -> None:
        self.sites = list(sites)
        self._topology = topology
        self.links = Links(topology)
        self._sources: dict[str, int] = {}
        shape = (0, len(Metric), len(self.sites))
        self._links = np.zeros((*shape, 1), dtype=np.intp)
        """Also by hop: numbers of `links`, and that of the infinite one where a route has no further link."""
        self._latency_hours, self._bottleneck_gbps = np.zeros(shape), np.zeros(shape)
        self._price_per_gib = np.zeros(shape)
        """Infinite where there is no route."""
        self._found: dict[tuple[DatasetId, float, float], Best] = {}
        self._found_as_of: tuple[Topology, Shares, int] | None = None

    def best(self, topology: Topology, dataset: DatasetId, hours_weight: float, money_weight: float, shares: Shares) -> Best:
        """To every target, the transfer that `cheapest_transfer` finds there, over what is free now."""
        as_of = (topology, shares, shares.version)
        if as_of != self._found_as_of:
            self._found.clear()
            self._found_as_of = as_of
        key = (dataset, hours_weight, money_weight)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._best(topology, dataset, hours_weight, money_weight, shares)
        return found

    def _best(self, topology: Topology, dataset: DatasetId, hours_weight: float, money_weight: float, shares: Shares) -> Best:
        known = topology.datasets.get(dataset)
        gib = (known.size_bytes if known and known.size_bytes is not None else GIB) / GIB
        sources = topology.replica_sites(dataset)
        count = len(self.sites)
        if not sources:
            nowhere = np.zeros(count, dtype=np.intp)
            return Best((), nowhere, nowhere[:, None] - 1, gib, np.zeros(count), np.zeros(count, dtype=bool))
        numbers = [self._number(source) for source in sources]
        links = self._links[numbers].reshape(-1, count, self._links.shape[3])
        price = self._price_per_gib[numbers].reshape(-1, count)
        free = shares.free[links].min(axis=2)
        is_usable = (free > 0) & np.isfinite(price)
        hours = gib * HOURS_AT_ONE_GBPS / np.where(is_usable, free, 1.0) + self._latency_hours[numbers].reshape(-1, count)
        money = gib * np.where(is_usable, price, 0.0)
        weighed = np.where(is_usable, hours_weight * hours + money_weight * money, np.inf)
        pick, each = weighed.argmin(axis=0), np.arange(count)
        bottleneck = self._bottleneck_gbps[numbers].reshape(-1, count)[pick, each]
        is_open = is_usable[pick, each] & (free[pick, each] >= LEAST_SHARE * bottleneck)
        return Best(sources, pick // len(Metric), links[pick, each], gib, money[pick, each], is_open)

    def _number(self, source: str) -> int:
        """The source's place in the arrays."""
        number = self._sources.get(source)
        if number is None:
            self._add(source)
            number = self._sources[source] = len(self._sources)
        return number

    def _add(self, source: str) -> None:
        routes = [[self._topology.route(source, target, metric) for target in self.sites] for metric in Metric]
        hops = max([len(route.links) for found in routes for route in found if route] + [self._links.shape[3]])
        links = np.full((len(routes), len(self.sites), hops), len(self.links.names), dtype=np.intp)
        latency, bottleneck = np.zeros(links.shape[:2]), np.zeros(links.shape[:2])
        price = np.full(links.shape[:2], np.inf)
        for number, found in enumerate(routes):
            for target, route in enumerate(found):
                if route is not None:
                    links[number, target, : len(route.links)] = [self.links.index[link.name] for link in route.links]
                    latency[number, target] = route.latency_ms / 3.6e6
                    price[number, target] = route.price_per_gib
                    bottleneck[number, target] = route.bottleneck_gbps
        narrow = ((0, 0), (0, 0), (0, 0), (0, hops - self._links.shape[3]))
        known = np.pad(self._links, narrow, constant_values=len(self.links.names))
        self._links = np.concatenate([known, links[None]])
        self._latency_hours = np.concatenate([self._latency_hours, latency[None]])
        self._bottleneck_gbps = np.concatenate([self._bottleneck_gbps, bottleneck[None]])
        self._price_per_gib = np.concatenate([self._price_per_gib, price[None]])
