"""Small worlds for placement: say only what matters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from broker.jobs.model import GpuRequest, Shape, SiteRules, TaskResources, Weights
from broker.placement.view import Group, Held, PlanInput, QueuedClass, SiteView, TenantView
from broker.records import Booking, Health
from topology.dataset import Dataset, DatasetId, Replica
from topology.graph import Topology
from topology.link import GIB, Link
from topology.resources import Resources
from topology.room import Room
from topology.site import Engine, Pool, Power, Price, Site, Storage

NOW = 1_000_000.0
GIB_PER_SECOND = 8 * GIB / 1e9
"""The bandwidth, in Gbps, that moves one GiB in a second."""
FASTEST, NO_POWER, FREE = Weights(), Power(), Price()


def a_dataset(name: str = "corpus") -> DatasetId:
    return DatasetId("default", name, "1")


def a_shape(
    run_hours: float = 1.0,
    tasks: int = 1,
    cpus: float = 1.0,
    memory_gib: float = 0.0,
    gpus: int = 0,
    gpu_types: tuple[str, ...] = (),
    inputs: tuple[str, ...] = (),
    priority: int = 50,
    objective: Weights = FASTEST,
    refused_by: tuple[str, ...] = (),
    needs: tuple[str, ...] = (),
    tenant: str = "default",
    deadline_s: float | None = None,
    max_cost: float | None = None,
    preemptible: bool = False,
    **rules: Any,
) -> Shape:
    return Shape(
        tenant=tenant,
        tasks=tasks,
        resources=TaskResources(cpus, memory_gib, GpuRequest(gpus, gpu_types)),
        inputs=tuple(a_dataset(name) for name in inputs),
        run_time_s=run_hours * 3600,
        objective=objective,
        sites=SiteRules(**rules),
        priority=priority,
        max_wait_s=None,
        refused_by=refused_by,
        needs=needs,
        deadline_s=deadline_s,
        max_cost=max_cost,
        preemptible=preemptible,
    )


def a_view(
    name: str,
    cpus: float = 8,
    nodes: int = 1,
    gpus: Mapping[str, int] | None = None,
    free: Iterable[float] | None = None,
    held: tuple[Held, ...] = (),
    health: Health = Health.UP,
    reason: str = "",
    speed: float = 1.0,
    power: Power = NO_POWER,
    price: Price = FREE,
    **site: Any,
) -> SiteView:
    """A site of one pool of equal nodes, 64 GiB each; `free` gives the cpus that others leave us on each."""
    per_node = Resources.of(cpus, 64, gpus or {})
    pool = Pool("cpu", nodes, per_node, speed, power)
    rooms = Room.of((replace(per_node, cpus=left), 1) for left in ([cpus] * nodes if free is None else free))
    declared = Site(name, Engine("process"), (pool,), Storage(f"file:///srv/{name}"), price=price, **site)
    return SiteView(declared, health, reason, rooms={"cpu": rooms}, held=held)


def running(cpus: float, *, until: float, count: int = 1, tasks: int = 1) -> Held:
    """Attempts of ours that end so many hours from now."""
    return Held("cpu", Resources(cpus), tasks, (NOW + until * 3600,) * count)


def waiting(shape: Shape, count: int = 1, age: float = 0.0) -> QueuedClass:
    """A class whose jobs were all made `age` seconds ago."""
    return QueuedClass(shape, (NOW - age,) * count, count)


def a_world(
    *views: SiteView,
    classes: Iterable[QueuedClass] = (),
    at: Mapping[str, str] | None = None,
    sizes: Mapping[str, float | None] | None = None,
    links: Iterable[Link] = (),
    bookings: tuple[Booking, ...] = (),
    regions: Mapping[str, tuple[str, ...]] | None = None,
    tenants: tuple[TenantView, ...] = (),
    most: int = 4000,
    groups: tuple[Group, ...] = (),
) -> PlanInput:
    """`at` says at which sites (in one word) each dataset is; `sizes` its GiB, 3600 unless told; None: not measured;
    `regions` those that it may enter."""
    at = at or {}
    gib = {name: (sizes or {}).get(name, 3600) for name in at}
    sized = {name: None if gib[name] is None else int(gib[name] * GIB) for name in at}
    datasets = [Dataset(a_dataset(name), sized[name], regions=(regions or {}).get(name, ())) for name in at]
    replicas = [Replica(a_dataset(name), site, name) for name, sites in at.items() for site in sites.split()]
    topology = Topology.of([view.site for view in views], links, datasets, replicas)
    return PlanInput(NOW, topology, views, tuple(classes), bookings, tenants, most, groups)


def a_link(source: str, target: str, gib_per_second: float = 1.0, price: float = 0.0) -> Link:
    return Link(source, target, gib_per_second * GIB_PER_SECOND, price_per_gib=price)
