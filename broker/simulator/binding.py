"""Jobs of a trace bound to sites, data and times: what makes a scenario of the parts of a composition."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from broker.jobs.model import GpuRequest, Shape, SiteRules, TaskResources, Weights
from broker.simulator.readers import BadTrace, Recorded
from broker.simulator.scenario import Arrival, Scenario
from topology.dataset import Dataset, DatasetId, Replica
from topology.graph import Topology
from topology.link import GIB, Link
from topology.resources import Resources
from topology.site import Site

READS = 0.7
"""The part of jobs that read a dataset, where that is drawn."""
DATASETS = 60


@dataclass(frozen=True, slots=True)
class Parts:
    """What a scenario is made of, before its jobs are bound to data and times."""

    name: str
    sites: tuple[Site, ...]
    links: tuple[Link, ...]
    jobs: Sequence[Recorded]
    sizes_gib: Sequence[float]
    """Of datasets; drawn from. Without any, jobs read only the datasets that they name."""
    notes: str
    datasets: tuple[Dataset, ...] = ()
    replicas: tuple[Replica, ...] = ()
    """Of the datasets that jobs may name."""
    is_as_recorded: bool = False
    """Whether jobs ask for cpus and memory as recorded; else for the nearest power of two, so that classes are few."""


def bound(parts: Parts, chance: random.Random, load: float | None, seed: int, objective: Weights) -> Scenario:
    """Times between arrivals are stretched so that the work asked for is `load` of what the federation could do in that time;
    without a load they are as recorded. Raises BadTrace where no job fits any site, and for a dataset that is not there."""
    drawn = _data(parts, chance) if parts.sizes_gib else _Data((), (), {})
    fitting = [job for job in parts.jobs if _fits(job, parts)]
    if not fitting:
        raise BadTrace(f"{parts.name}: no job fits any site")
    first = fitting[0].at
    stretch = _stretch(fitting, parts.sites, load) if load is not None else 1.0
    known = {dataset.id for dataset in parts.datasets}
    arrivals = []
    of_kind: dict[str | None, Shape] = {}
    for job in fitting:
        shape = of_kind.get(job.kind) if job.kind else None
        if shape is None:
            inputs = _named(job, known)
            if not inputs and parts.sizes_gib and chance.random() < READS:
                inputs = (_zipf(drawn.by_tenant[job.tenant], chance),)
            priority = chance.choice((50, 50, 50, 80)) if job.kind else job.priority
            deadline_s = _deadline(job, chance) if job.kind and chance.random() < 1 / 3 else job.deadline_s
            shape = of_kind[job.kind] = _shape(job, parts, objective, inputs, priority, deadline_s)
        arrivals.append(Arrival(job.name, (job.at - first) * stretch, shape, job.run_time_s))
    datasets, replicas = (*parts.datasets, *drawn.datasets), (*parts.replicas, *drawn.replicas)
    topology = Topology.of(parts.sites, parts.links, datasets, replicas)
    classes = len({arrival.shape for arrival in arrivals})
    what = [f"{parts.notes}; seed {seed}, {len(arrivals)} jobs of {classes} classes"]
    what += [f"times stretched by {stretch:.3g} for load {load:g}" if load is not None else "times as recorded"]
    what += [f"an hour weighs as much as {1 / objective.money:g} of money" if objective.money else "money does not count"]
    left_out = len(parts.jobs) - len(fitting)
    what += [f"{left_out} more fit no site and are left out"] if left_out and parts.is_as_recorded else []
    return Scenario(f"{parts.name}-{seed}", topology, tuple(arrivals), (), ", ".join(what))


def log_uniform(least: float, most: float, chance: random.Random) -> list[float]:
    """Sizes between these, equally likely by their logarithm."""
    return [least * (most / least) ** chance.random() for _ in range(500)]


@dataclass(frozen=True, slots=True)
class _Data:
    datasets: Sequence[Dataset]
    replicas: Sequence[Replica]
    by_tenant: dict[str, list[DatasetId]]


def _data(parts: Parts, chance: random.Random) -> _Data:
    """Datasets of each tenant, with one to three replicas each."""
    tenants = sorted({job.tenant for job in parts.jobs})
    each = max(DATASETS // len(tenants), 2)
    names = [site.name for site in parts.sites]
    datasets, replicas = [], []
    by_tenant: dict[str, list[DatasetId]] = {}
    for tenant in tenants:
        for number in range(each):
            dataset = Dataset(DatasetId(tenant, f"d{number}", "1"), int(chance.choice(parts.sizes_gib) * GIB))
            datasets.append(dataset)
            by_tenant.setdefault(tenant, []).append(dataset.id)
            replicas += [Replica(dataset.id, name, "") for name in chance.sample(names, min(chance.randint(1, 3), len(names)))]
    return _Data(datasets, replicas, by_tenant)


def _zipf(datasets: Sequence[DatasetId], chance: random.Random) -> DatasetId:
    return chance.choices(datasets, [1 / (rank + 1) for rank in range(len(datasets))])[0]


def _named(job: Recorded, known: Iterable[DatasetId]) -> tuple[DatasetId, ...]:
    """The datasets that a job names, of its own tenant unless told: the newest where no version is. Raises BadTrace."""
    found = []
    for reference in job.datasets:
        tenant, _, rest = reference.rpartition("/")
        name, _, version = rest.partition("@")
        wanted = (tenant or job.tenant, name)
        ids = [of for of in known if (of.tenant, of.name) == wanted and version in ("", of.version)]
        if not ids:
            there = ", ".join(sorted(f"{of.tenant}/{of.name}@{of.version}" for of in known)) or "none"
            raise BadTrace(f"{job.where}: datasets: there is no {wanted[0]}/{rest}; the federation declares {there}")
        found.append(max(ids, key=lambda of: (len(of.version), of.version)))
    return tuple(dict.fromkeys(found))


def _shape(
    job: Recorded, parts: Parts, objective: Weights, inputs: tuple[DatasetId, ...], priority: int, deadline_s: float | None
) -> Shape:
    cpus, memory_gib = _size(job, parts)
    expected_s = job.expected_s if parts.is_as_recorded else None
    return Shape(
        tenant=job.tenant,
        tasks=job.tasks,
        resources=TaskResources(cpus, memory_gib, GpuRequest(job.gpus, (job.gpu_type,) if job.gpu_type else ())),
        inputs=inputs,
        run_time_s=expected_s or _power_of_two(min(job.expected_s or job.run_time_s, 7 * 86_400.0)),
        objective=objective,
        sites=SiteRules(),
        priority=priority,
        max_wait_s=None,
        refused_by=(),
        deadline_s=deadline_s,
    )


def _size(job: Recorded, parts: Parts) -> tuple[float, float]:
    """Cpus and GiB of memory of a task: 2 GiB with each cpu where the trace does not say."""
    memory_gib = job.memory_gib if job.memory_gib is not None else 2.0 * job.cpus
    if parts.is_as_recorded:
        return job.cpus, memory_gib
    return _power_of_two(job.cpus), _power_of_two(max(memory_gib, 0.25))


def _power_of_two(value: float) -> float:
    """The nearest one: within a factor of 1.42."""
    exponent = 0
    while 2.0 ** (exponent + 0.5) < value:
        exponent += 1
    while 2.0 ** (exponent - 0.5) >= value:
        exponent -= 1
    return 2.0**exponent


def _deadline(job: Recorded, chance: random.Random) -> float:
    """Two to eight times its run time after its arrival, in steps, with half an hour to spare."""
    return 1800.0 + _power_of_two(job.run_time_s) * chance.choice((2, 4, 8))


def _fits(job: Recorded, parts: Parts) -> bool:
    task = Resources(*_size(job, parts))
    for site in parts.sites:
        for pool in site.pools:
            found = (count for kind, count in pool.per_node.gpus if job.gpu_type in (None, kind))
            gpus = max(found, default=0) // job.gpus if job.gpus else 10**9
            if min(task.times_in(pool.per_node), gpus) * pool.nodes >= job.tasks:
                return True
    return False


def _stretch(jobs: Sequence[Recorded], sites: Sequence[Site], load: float) -> float:
    demand = sum(job.run_time_s * job.tasks * _share(job, sites) for job in jobs)
    return demand / load / max(jobs[-1].at - jobs[0].at, 1.0)


def _share(job: Recorded, sites: Sequence[Site]) -> float:
    """The largest part of the federation that one of its tasks takes for a second, by speed."""
    pools = [pool for site in sites for pool in site.pools]
    cpus = sum(pool.nodes * pool.per_node.cpus * pool.speed for pool in pools)
    gpus = sum(pool.nodes * pool.per_node.gpu_count * pool.speed for pool in pools)
    return max(job.cpus / cpus, job.gpus / gpus if job.gpus else 0.0)
