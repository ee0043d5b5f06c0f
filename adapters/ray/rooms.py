"""The room of each pool, node by node, from what nodes have and who holds what of it. Pure.

Ray tells the whole use of a node with seconds of delay; jobs and placement groups are told of at once. So what is held by jobs of
brokers and by placement groups is taken from these, and only the rest from the delayed report, less what ended shortly before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from adapters.base import RunName
from adapters.ray.codec import FEDERATION, GIB, Job, Node, PlacementGroup, demand, needs_of, plain_name, tasks_of
from adapters.ray.settings import PoolSettings, RaySettings
from topology.resources import Resources
from topology.room import Room
from topology.site import Pool, Site

DELAY_S = 12.0
"""How old a report of use may be: the autoscaler looks every 5 s, and sees what nodes told it before."""
Amounts = dict[str, float]
"""By name of the resource; memory in bytes."""


@dataclass(frozen=True, slots=True)
class Use:
    """What is known of who holds what. `at` has the nodes of our gangs' tasks; `reported` is `usage_of` the cluster."""

    jobs: Collection[Job]
    groups: Collection[PlacementGroup]
    at: Mapping[RunName, Collection[str]]
    reported: Mapping[str, Mapping[str, float]]


def rooms_of(
    site: Site, settings: RaySettings, federation: str, nodes: Collection[Node], use: Use, now: float
) -> dict[str, Room]:
    """Per pool: what nodes have, less what others hold. `now` is seconds since the epoch by the site's clock."""
    others, known = _held(settings, federation, use, now)
    rooms = {}
    for pool in site.pools:
        wanted = settings.pool(pool.name)
        kinds = [kind for kind, _ in pool.per_node.gpus]
        free = [
            _free(settings, kinds, node, others[node.node_id], known[node.node_id], use.reported.get(node.node_id, {}))
            for node in nodes
            if is_of_pool(node, wanted)
        ]
        rooms[pool.name] = Room.of((each, 1) for each in free)
    return rooms


def is_of_pool(node: Node, pool: PoolSettings) -> bool:
    """Whether this node is one of the pool's."""
    labels = node.labels or {}
    if any(labels.get(name) != value for name, value in pool.labels.items()):
        return False
    return node.resources_total.get(pool.resource or "CPU", 0) > 0


def lacking(site: Site, settings: RaySettings, nodes: Collection[Node]) -> Pool | None:
    """A pool of which there is no node."""
    return next((pool for pool in site.pools if not any(is_of_pool(node, settings.pool(pool.name)) for node in nodes)), None)


def _held(
    settings: RaySettings, federation: str, use: Use, now: float
) -> tuple[Mapping[str, Amounts], Mapping[str, Amounts]]:
    """By node: what jobs and groups that are not ours hold; and what all hold, or held a moment ago."""
    others: dict[str, Amounts] = defaultdict(dict)
    known: dict[str, Amounts] = defaultdict(dict)
    ours = {job.name for job in use.jobs if job.said(FEDERATION) == federation}
    for job in use.jobs:
        amounts = demand(settings, needs_of(job))
        if job.is_over:
            if now - (job.end_time or 0) / 1000 < DELAY_S:
                for node in use.at.get(job.name, ()) if tasks_of(job) > 1 else filter(None, (job.driver_node_id,)):
                    _add(known[node], amounts)
        elif tasks_of(job) == 1 and job.driver_node_id is not None:
            _add(known[job.driver_node_id], amounts)
            if job.name not in ours:
                _add(others[job.driver_node_id], amounts)
    for group in use.groups:
        for bundle in (group.bundles or ()) if group.holds else ():
            if bundle.node_id is not None:
                _add(known[bundle.node_id], bundle.unit_resources or {})
                if group.name not in ours:
                    _add(others[bundle.node_id], bundle.unit_resources or {})
    return others, known


def _add(sum_: Amounts, more: Mapping[str, float]) -> None:
    for name, amount in more.items():
        sum_[name] = sum_.get(name, 0.0) + amount


def _free(
    settings: RaySettings, kinds: Collection[str], node: Node, others: Amounts, known: Amounts, reported: Mapping[str, float]
) -> Resources:
    """What is left of a node, GPUs by those types that the pool is declared with."""

    def left(name: str) -> float:
        unknown = max(reported.get(plain_name(name), 0.0) - known.get(name, 0.0), 0.0)
        return max(node.resources_total.get(name, 0.0) - others.get(name, 0.0) - unknown, 0.0)

    gpus = {}
    for kind in kinds:
        gpu = settings.gpu(kind)
        if gpu.counted is not None:
            gpus[kind] = int(left(gpu.counted))
        elif gpu.marker in node.resources_total:
            gpus[kind] = int(left("GPU"))
    return Resources.of(left("CPU"), left("memory") / GIB, gpus)
