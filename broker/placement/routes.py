"""The ways from where a dataset is to every site at once, as arrays over all sites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from broker.placement.pools import Floats, Places
from broker.placement.shares import LEAST_SHARE, Shares
from topology.dataset import DatasetId
from topology.graph import Metric, Topology
from topology.link import GIB, bytes_per_second

HOURS_AT_ONE_GBPS = GIB / bytes_per_second(1.0) / 3600
"""Of one GiB."""


@dataclass(frozen=True, slots=True)
class Ways:
    """The quickest and the least priced route from one site to each: `links` by metric, site and hop, places in `Shares.free`,
    with that of the infinite one where a route has no further link. Where there is no route its price is infinite."""

    links: Places
    latency_hours: Floats
    price_per_gib: Floats
    bottleneck_gbps: Floats


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
    """Routes over one set of sites and links, kept as they are found."""

    def __init__(self, topology: Topology, sites: Sequence[str]) -> None:
        self._topology, self.sites = topology, list(sites)
        self._index = {name: number for number, name in enumerate(topology.links)}
        self._from: dict[str, Ways] = {}

    def best(self, topology: Topology, dataset: DatasetId, hours_weight: float, money_weight: float, shares: Shares) -> Best:
        """To every target, the transfer that `cheapest_transfer` finds there, over what is free now."""
        known = topology.datasets.get(dataset)
        gib = (known.size_bytes if known and known.size_bytes is not None else GIB) / GIB
        sources = topology.replica_sites(dataset)
        count = len(self.sites)
        if not sources:
            nowhere = np.zeros(count, dtype=np.intp)
            return Best((), nowhere, nowhere[:, None] - 1, gib, np.zeros(count), np.zeros(count, dtype=bool))
        ways = [self._ways(source) for source in sources]
        hops = max(way.links.shape[2] for way in ways)
        links = np.concatenate([_padded(way.links, hops) for way in ways])
        free = shares.free[links].min(axis=2)
        price = np.concatenate([way.price_per_gib for way in ways])
        is_usable = (free > 0) & np.isfinite(price)
        hours = gib * HOURS_AT_ONE_GBPS / np.where(is_usable, free, 1.0) + np.concatenate([way.latency_hours for way in ways])
        money = gib * np.where(is_usable, price, 0.0)
        weighed = np.where(is_usable, hours_weight * hours + money_weight * money, np.inf)
        pick, each = weighed.argmin(axis=0), np.arange(count)
        bottleneck = np.concatenate([way.bottleneck_gbps for way in ways])[pick, each]
        is_open = is_usable[pick, each] & (free[pick, each] >= LEAST_SHARE * bottleneck)
        return Best(sources, pick // len(Metric), links[pick, each], gib, money[pick, each], is_open)

    def _ways(self, source: str) -> Ways:
        found = self._from.get(source)
        if found is None:
            found = self._from[source] = self._find(source)
        return found

    def _find(self, source: str) -> Ways:
        metrics, count = tuple(Metric), len(self.sites)
        routes = [[self._topology.route(source, target, metric) for target in self.sites] for metric in metrics]
        hops = max([len(route.links) for found in routes for route in found if route] + [1])
        links = np.full((len(metrics), count, hops), len(self._index), dtype=np.intp)
        latency, bottleneck = np.zeros((len(metrics), count)), np.zeros((len(metrics), count))
        price = np.full((len(metrics), count), np.inf)
        for number, found in enumerate(routes):
            for target, route in enumerate(found):
                if route is not None:
                    links[number, target, : len(route.links)] = [self._index[link.name] for link in route.links]
                    latency[number, target] = route.latency_ms / 3.6e6
                    price[number, target] = route.price_per_gib
                    bottleneck[number, target] = route.bottleneck_gbps
        return Ways(links, latency, price, bottleneck)


def _padded(links: Places, hops: int) -> Places:
    """With so many hops: -1 is the infinite link's place, too, as the last of all."""
    return np.pad(links, ((0, 0), (0, 0), (0, hops - links.shape[2])), constant_values=-1)
