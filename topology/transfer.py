"""What it takes to bring a dataset to a site, and from which replica."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from topology.dataset import DatasetId
from topology.graph import Metric, Route, Topology
from topology.link import GIB, bytes_per_second


@dataclass(frozen=True, slots=True)
class Transfer:
    """One dataset over one route. `share_gbps` is what the route has free; hours and money are of the whole transfer.

    `carbon_kg` is 0: published figures of the network's energy are averages of the public internet that halve every two years
    (0.06 kWh/GB in 2015: Aslan et al., J. Industrial Ecology 22(4), 2018) and say nothing of a given link.
    """

    dataset: DatasetId
    source: str
    target: str
    route: Route
    share_gbps: float
    gib: float
    hours: float
    money: float
    carbon_kg: float = 0.0


def cheapest_transfer(
    topology: Topology,
    dataset: DatasetId,
    target: str,
    free_gbps: Mapping[str, float] | None = None,
    hours_weight: float = 1.0,
    money_weight: float = 0.0,
) -> Transfer | None:
    """The transfer of least weighed hours and money; of nothing when a replica is at the target already.

    Of each replica the quickest and the least priced route are looked at, as `Topology.route` finds them. None when no replica
    can reach the target. `free_gbps` is what is free on each link by name (what is not named is free in
    whole); a route with a link that has nothing free is no route. A dataset of unknown size counts as 1 GiB.
    hours = GiB * 2**30 / (share in bytes per second) / 3600 + latency; money = GiB * price per GiB over the links.
    """
    if topology.replica(dataset, target):
        return Transfer(dataset, target, target, Route(), float("inf"), 0.0, 0.0, 0.0)
    known = topology.datasets.get(dataset)
    gib = (known.size_bytes if known and known.size_bytes is not None else GIB) / GIB
    best: tuple[float, str, Transfer] | None = None
    for source in topology.replica_sites(dataset):
        for metric in Metric:
            route = topology.route(source, target, metric)
            transfer = route and _over(route, dataset, source, target, gib, free_gbps or {})
            if not transfer:
                continue
            weighed = hours_weight * transfer.hours + money_weight * transfer.money
            if best is None or (weighed, source) < best[:2]:
                best = (weighed, source, transfer)
    return best[2] if best else None


def _over(
    route: Route, dataset: DatasetId, source: str, target: str, gib: float, free_gbps: Mapping[str, float]
) -> Transfer | None:
    share = min(free_gbps.get(link.name, link.bandwidth_gbps) for link in route.links)
    if share <= 0:
        return None
    hours = gib * GIB / bytes_per_second(share) / 3600 + route.latency_ms / 3.6e6
    return Transfer(dataset, source, target, route, share, gib, hours, gib * route.price_per_gib)
