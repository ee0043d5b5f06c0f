"""Scenarios composed of traces, measured links and chance: no trace has jobs, bytes and sites together, so what comes from where
is said in each, and in `Scenario.notes`. Everything is seeded.

Common to all: a window of consecutive jobs (a trace that is too short is drawn from, with new times between arrivals of the same
kind); arrivals stretched so that the work asked for is `load` of what the federation could do in that time; run times expected to
within a factor of about 1.4 (the nearest power of two), or as users said, and cpus and memory rounded likewise, so that jobs fall
into classes; and data of its own for
each tenant, popular ones read more often (Zipf), with one to three replicas.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from broker.jobs.model import GpuRequest, Shape, SiteRules, TaskResources, Weights
from broker.simulator.readers import BadTrace, Recorded, read_alibaba, read_philly, read_swf, read_swim
from broker.simulator.scenario import Arrival, Scenario
from broker.simulator.wan import Wan, carbon_of, links_of, read_wan
from topology.dataset import Dataset, DatasetId, Replica
from topology.graph import Topology
from topology.link import GIB, Link
from topology.resources import Resources
from topology.site import Engine, Pool, Power, Price, Site, Storage

MONEY_WEIGHT = 0.5
"""Of all jobs, unless told: two units of money weigh as much as an hour."""
SPEEDS = (0.8, 1.0, 1.0, 1.25)
CPU_HOUR = (0.01, 0.06)
GPU_HOUR = (0.4, 2.0)
"""Prices are drawn between these."""
POWER = Power(cpu_w=6.0, gpu_w=250.0)
READS = 0.7
"""The part of jobs that read a dataset."""
DATASETS = 60
KINDS = 300
"""Of generated jobs."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a composition is made of, before its jobs are bound to data and times."""

    name: str
    sites: tuple[Site, ...]
    links: tuple[Link, ...]
    jobs: Sequence[Recorded]
    sizes_gib: Sequence[float]
    """Of datasets; drawn from."""
    notes: str


def compose(
    name: str,
    data: Path | None = None,
    *,
    seed: int,
    jobs: int = 20_000,
    load: float = 0.9,
    money_weight: float = MONEY_WEIGHT,
) -> Scenario:
    """One of `COMPOSITIONS`. Raises ValueError for another name and where `data`, the folder of the traces, is missing; BadTrace
    and OSError where they cannot be read."""
    if name not in COMPOSITIONS:
        raise ValueError(f"composition {name!r}: one of {', '.join(COMPOSITIONS)}")
    if jobs < 1 or load <= 0:
        raise ValueError(f"jobs {jobs}, load {load}: both are more than nothing")
    if money_weight < 0:
        raise ValueError(f"money_weight {money_weight}: not below 0")
    if data is None and name != "generated":
        raise ValueError(f"composition {name!r} needs the folder of the traces")
    chance = random.Random(f"{name} {seed}")
    return _bound(COMPOSITIONS[name](data or Path(), chance, jobs), chance, load, seed, Weights(1.0, money_weight))


def _lcg_swim(data: Path, chance: random.Random, jobs: int) -> Parts:
    recorded = list(read_swf(data / "lcg2005_swf" / "LCG.swf.gz"))
    bytes_read = [job.input_gib for job in read_swim(data / "swim_facebook" / "FB-2010_samples_24_times_1hr_0.tsv")]
    work: dict[str, float] = {}
    for job in recorded:
        work[job.home or ""] = work.get(job.home or "", 0.0) + job.run_time_s * job.tasks
    whole = sum(work.values())
    # 24,515 processors in all, as the trace's head says, shared by the work that each site did; nodes of 4, as was usual then
    sizes = {home: max(round(24_515 * part / whole / 4), 2) for home, part in work.items()}
    wan = read_wan(data)
    regions = _regions(wan, sizes, chance)
    sites = tuple(_site(home, nodes, Resources(4, 16), regions[home], wan, chance) for home, nodes in sorted(sizes.items()))
    notes = "jobs of LCG-2005, sites as large as the work they did, inputs like Facebook's of 2010 (SWIM), Skyplane's links"
    large = [gib for gib in bytes_read if gib and gib >= 1 / 16]
    return Parts("lcg-swim", sites, tuple(links_of(wan, regions)), _window(recorded, jobs, chance), large, notes)


def _philly(data: Path, chance: random.Random, jobs: int) -> Parts:
    recorded = sorted(read_philly(data / "philly_sia" / "philly.csv"), key=lambda job: job.at)
    wan = read_wan(data)
    sizes = {}
    for line in (data / "philly_sia" / "philly_vc_nodes.csv").read_text().splitlines()[1:]:
        name, _, nodes = line.partition(",")
        sizes[name] = int(nodes)
    regions = _regions(wan, sizes, chance)
    node = Resources.of(64, 512, {"p100": 8})
    sites = tuple(_site(name, nodes, node, regions[name], wan, chance) for name, nodes in sorted(sizes.items()))
    large = [job for job in recorded if job.tasks * 8 <= max(sizes.values()) * 8]
    notes = "jobs of Philly, a site for each virtual cluster, 4 cpus per GPU, datasets of 1 to 500 GiB, Skyplane's links"
    sizes_gib = _log_uniform(1, 500, chance)
    return Parts("philly", sites, tuple(links_of(wan, regions)), _window(large, jobs, chance), sizes_gib, notes)


def _alibaba(data: Path, chance: random.Random, jobs: int) -> Parts:
    recorded = sorted(read_alibaba(data / "alibaba_gpu" / "openb_pod_list_default.csv"), key=lambda job: job.at)
    wan = read_wan(data)
    names = [f"zone{number:02}" for number in range(12)]
    regions = _regions(wan, names, chance)
    kinds = {"t4": (96, 512, 4), "g2": (96, 384, 8), "v100": (96, 768, 8), "cpu": (64, 384, 0)}
    sites = []
    for name in names:
        pools = []
        for kind in chance.sample(sorted(kinds), 2):
            cpus, memory, gpus = kinds[kind]
            node = Resources.of(cpus, memory, {kind: gpus} if gpus else {})
            pools.append(Pool(kind, chance.randint(4, 30), node, chance.choice(SPEEDS), POWER))
        if all(pool.per_node.gpu_count == 0 for pool in pools) or chance.random() < 0.5:
            pools.append(Pool("t4x", chance.randint(4, 20), Resources.of(104, 512, {"t4": 2}), 0.8, POWER))
        sites.append(_with_pools(name, tuple(pools), regions[name], wan, chance))
    notes = "pods of Alibaba's GPU cluster of 2023, 12 zones of its makes of nodes, datasets of 1 to 200 GiB, Skyplane's links"
    links, sizes_gib = tuple(links_of(wan, regions)), _log_uniform(1, 200, chance)
    return Parts("alibaba", tuple(sites), links, _window(recorded, jobs, chance), sizes_gib, notes)


def _generated(data: Path, chance: random.Random, jobs: int) -> Parts:
    names = [f"site{number:02}" for number in range(24)]
    sites = []
    for name in names:
        cpu = Pool("cpu", chance.randint(8, 60), Resources(64, 256), chance.choice(SPEEDS), POWER)
        node = Resources.of(64, 512, {chance.choice(("a100", "h100")): 8})
        gpu = Pool("gpu", chance.randint(2, 16), node, chance.choice(SPEEDS), POWER)
        price = Price(cpu_hour=chance.uniform(*CPU_HOUR), gpu_hour={kind: chance.uniform(*GPU_HOUR) for kind in ("a100", "h100")})
        pools = (cpu, gpu) if chance.random() < 0.5 else (cpu,)
        carbon = chance.uniform(20, 700)
        sites.append(Site(name, Engine("twin"), pools, Storage(f"file:///{name}"), price=price, carbon_g_per_kwh=carbon))
    links = [
        Link(a, b, chance.choice((1.0, 5.0, 10.0)), chance.uniform(2, 120), chance.choice((0.0, 0.02, 0.09)))
        for number, a in enumerate(names)
        for b in sorted({names[(number + step) % len(names)] for step in (1, 2, 3, 5, 8, 12, -1, -2, -3, -5, -8)})
    ]
    kinds = [_kind(number, chance) for number in range(KINDS)]
    popularity = [1 / (rank + 5) for rank in range(KINDS)]
    recorded, at = [], 0.0
    for number in range(jobs):
        # ten minutes of many arrivals follow ten of few
        at += chance.expovariate(1.0 if int(at / 600) % 2 else 0.4)
        kind = chance.choices(kinds, popularity)[0]
        run_time_s = kind.run_time_s * chance.lognormvariate(0, 0.3)
        recorded.append(replace(kind, name=f"j{number}", at=at, run_time_s=run_time_s, expected_s=kind.run_time_s))
    notes = "generated: 300 kinds of jobs of five tenants, a fifth on GPUs, gangs, bursts, a third with deadlines; links drawn"
    return Parts("generated", tuple(sites), tuple(links), recorded, _log_uniform(1, 300, chance), notes)


def _kind(number: int, chance: random.Random) -> Recorded:
    """A kind of job that is run again and again."""
    cpus, gpus = (8.0, chance.choice((1, 2, 4, 8))) if chance.random() < 0.2 else (chance.choice((1.0, 2.0, 4.0, 16.0)), 0)
    tenant = chance.choice(("physics", "physics", "biology", "climate", "vision", "vision", "language"))
    run_time_s, gang = min(chance.lognormvariate(7.0, 1.2), 86_400.0), chance.choice((1, 1, 1, 1, 1, 2, 4, 8))
    return Recorded("", 0.0, run_time_s, tenant, gang, cpus, cpus * 2, gpus, kind=f"k{number}")


COMPOSITIONS: Mapping[str, Callable[[Path, random.Random, int], Parts]] = {
    "lcg-swim": _lcg_swim,
    "philly": _philly,
    "alibaba": _alibaba,
    "generated": _generated,
}


def _bound(parts: Parts, chance: random.Random, load: float, seed: int, objective: Weights) -> Scenario:
    """Jobs with their classes, data and times."""
    datasets, replicas, by_tenant = _data(parts, chance)
    fitting = [job for job in parts.jobs if _fits(job, parts.sites)]
    if not fitting:
        raise BadTrace(f"{parts.name}: no job fits any site")
    first = fitting[0].at
    demand = sum(job.run_time_s * job.tasks * _share(job, parts.sites) for job in fitting)
    span = max(fitting[-1].at - first, 1.0)
    stretch = demand / load / span
    arrivals = []
    of_kind: dict[str | None, Shape] = {}
    for job in fitting:
        shape = of_kind.get(job.kind) if job.kind else None
        if shape is None:
            read = _zipf(by_tenant[job.tenant], chance) if chance.random() < READS else None
            priority = chance.choice((50, 50, 50, 80)) if job.kind else 50
            deadline_s = _deadline(job, chance) if job.kind and chance.random() < 1 / 3 else None
            shape = of_kind[job.kind] = _shape(job, objective, read, priority, deadline_s)
        arrivals.append(Arrival(job.name, (job.at - first) * stretch, shape, job.run_time_s))
    topology = Topology.of(parts.sites, parts.links, datasets, replicas)
    classes = len({arrival.shape for arrival in arrivals})
    what = f"seed {seed}, {len(arrivals)} jobs of {classes} classes, times stretched by {stretch:.3g} for load {load:g}"
    what += f", an hour weighs as much as {1 / objective.money:g} of money" if objective.money else ", money does not count"
    notes = f"{parts.notes}; {what}"
    return Scenario(f"{parts.name}-{seed}", topology, tuple(arrivals), (), notes)


def _shape(job: Recorded, objective: Weights, read: DatasetId | None, priority: int, deadline_s: float | None) -> Shape:
    memory = job.memory_gib if job.memory_gib is not None else 2.0 * job.cpus
    return Shape(
        tenant=job.tenant,
        tasks=job.tasks,
        resources=TaskResources(_power_of_two(job.cpus), _power_of_two(max(memory, 0.25)), GpuRequest(job.gpus, ())),
        inputs=(read,) if read else (),
        run_time_s=_power_of_two(min(job.expected_s or job.run_time_s, 7 * 86_400.0)),
        objective=objective,
        sites=SiteRules(),
        priority=priority,
        max_wait_s=None,
        refused_by=(),
        deadline_s=deadline_s,
    )


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


def _data(parts: Parts, chance: random.Random) -> tuple[list[Dataset], list[Replica], dict[str, list[DatasetId]]]:
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
    return datasets, replicas, by_tenant


def _zipf(datasets: Sequence[DatasetId], chance: random.Random) -> DatasetId:
    return chance.choices(datasets, [1 / (rank + 1) for rank in range(len(datasets))])[0]


def _log_uniform(least: float, most: float, chance: random.Random) -> list[float]:
    return [least * (most / least) ** chance.random() for _ in range(500)]


def _window(recorded: Sequence[Recorded], jobs: int, chance: random.Random) -> Sequence[Recorded]:
    """Consecutive jobs from a random beginning; of a trace that has fewer, jobs drawn from it, and pauses between them."""
    if len(recorded) >= jobs:
        first = chance.randrange(len(recorded) - jobs + 1)
        return recorded[first : first + jobs]
    gaps = [max(b.at - a.at, 0.0) for a, b in pairwise(recorded)] or [1.0]
    at, drawn = 0.0, []
    for number in range(jobs):
        at += chance.choice(gaps)
        drawn.append(replace(chance.choice(recorded), name=f"j{number}", at=at))
    return drawn


def _fits(job: Recorded, sites: Iterable[Site]) -> bool:
    task = Resources(_power_of_two(job.cpus), _power_of_two(max(job.memory_gib or 2.0 * job.cpus, 0.25)))
    for site in sites:
        for pool in site.pools:
            per_gpu = max((count for _, count in pool.per_node.gpus), default=0)
            gpus = per_gpu // job.gpus if job.gpus else 10**9
            if min(task.times_in(pool.per_node), gpus) * pool.nodes >= job.tasks:
                return True
    return False


def _share(job: Recorded, sites: Sequence[Site]) -> float:
    """The largest part of the federation that one of its tasks takes for a second, by speed."""
    pools = [pool for site in sites for pool in site.pools]
    cpus = sum(pool.nodes * pool.per_node.cpus * pool.speed for pool in pools)
    gpus = sum(pool.nodes * pool.per_node.gpu_count * pool.speed for pool in pools)
    return max(job.cpus / cpus, job.gpus / gpus if job.gpus else 0.0)


def _regions(wan: Wan, names: Iterable[str], chance: random.Random) -> dict[str, str]:
    """Sites dealt out over shuffled regions."""
    shuffled = chance.sample(wan.regions, len(wan.regions))
    return {name: shuffled[number % len(shuffled)] for number, name in enumerate(sorted(names))}


def _site(name: str, nodes: int, node: Resources, region: str, wan: Wan, chance: random.Random) -> Site:
    return _with_pools(name, (Pool("main", nodes, node, chance.choice(SPEEDS), POWER),), region, wan, chance)


def _with_pools(name: str, pools: tuple[Pool, ...], region: str, wan: Wan, chance: random.Random) -> Site:
    kinds = sorted({kind for pool in pools for kind, _ in pool.per_node.gpus})
    price = Price(cpu_hour=chance.uniform(*CPU_HOUR), gpu_hour={kind: chance.uniform(*GPU_HOUR) for kind in kinds})
    carbon = carbon_of(wan, region)
    return Site(name, Engine("twin"), pools, Storage(f"file:///{name}"), region=region, price=price, carbon_g_per_kwh=carbon)
