"""Scenarios composed of traces, measured links and chance: no trace has jobs, bytes and sites together, so what comes from where
is said in each, and in `Scenario.notes`. Everything is seeded.

Common to all: a window of consecutive jobs (a trace that is too short is drawn from, with new times between arrivals of the same
kind); arrivals stretched so that the work asked for is `load` of what the federation could do in that time; run times expected to
within a factor of about 1.4 (the nearest power of two), or as users said, and cpus and memory rounded likewise, so that jobs fall
into classes; and data of its own for each tenant, popular ones read more often (Zipf), with one to three replicas.

A user's own federation or jobs (`Own`) stand for the composition's. Their own jobs ask for what they asked, when they came, and
read the datasets that they name; where they are many, a window of them is taken.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from broker.jobs.model import Weights
from broker.simulator.binding import Parts, bound, log_uniform
from broker.simulator.own import read_federation, read_jobs
from broker.simulator.readers import Recorded, read_alibaba, read_philly, read_swf, read_swim
from broker.simulator.scenario import Scenario
from broker.simulator.wan import Wan, carbon_of, links_of, read_wan
from topology.link import Link
from topology.resources import Resources
from topology.site import Engine, Pool, Power, Price, Site, Storage

MONEY_WEIGHT = 0.5
"""Of all jobs, unless told: two units of money weigh as much as an hour."""
LOAD = 0.9
"""Of a composition's own jobs, unless told."""
SPEEDS = (0.8, 1.0, 1.0, 1.25)
CPU_HOUR = (0.01, 0.06)
GPU_HOUR = (0.4, 2.0)
"""Prices are drawn between these."""
POWER = Power(cpu_w=6.0, gpu_w=250.0)
KINDS = 300
"""Of generated jobs."""
OWN_SIZES_GIB = (1.0, 300.0)
"""Of datasets that are drawn for a user's own jobs, where these do not say what they read."""


@dataclass(frozen=True, slots=True)
class Own:
    """What a user brings: files of a federation and of jobs, the jobs' format unless its suffix tells, and whether jobs that name
    no dataset read some that are drawn."""

    federation: Path | None = None
    jobs: Path | None = None
    jobs_format: str | None = None
    draws_data: bool = False


def compose(
    name: str,
    data: Path | None = None,
    *,
    seed: int,
    jobs: int = 20_000,
    load: float | None = None,
    money_weight: float = MONEY_WEIGHT,
    own: Own = Own(),
) -> Scenario:
    """One of `COMPOSITIONS`, with what the user brings in its parts' stead. Without a `load` it is `LOAD`, and a user's own jobs
    come as recorded. Raises ValueError for another name and where `data`, the folder of the traces, is missing; BadTrace, Invalid
    and OSError for files that are not as they should be."""
    if name not in COMPOSITIONS:
        raise ValueError(f"composition {name!r}: one of {', '.join(COMPOSITIONS)}")
    if jobs < 1 or (load is not None and load <= 0):
        raise ValueError(f"jobs {jobs}, load {load}: both are more than nothing")
    if not 0 <= money_weight < math.inf:
        raise ValueError(f"money_weight {money_weight}: a number, not below 0")
    if data is None and name != "generated":
        raise ValueError(f"composition {name!r} needs the folder of the traces")
    chance = random.Random(f"{name} {seed}")
    parts = COMPOSITIONS[name](data or Path(), chance, jobs)
    if own.federation or own.jobs:
        parts = _with_own(parts, own, data, jobs, chance)
    if load is None and own.jobs is None:
        load = LOAD
    return bound(parts, chance, load, seed, Weights(1.0, money_weight))


def _with_own(parts: Parts, own: Own, data: Path | None, jobs: int, chance: random.Random) -> Parts:
    """What the user brings, and in the notes what is whose."""
    place, work = f"the sites and links of {parts.name}", parts.notes
    if own.federation:
        parts, place = _on(parts, own.federation, data, chance)
    if own.jobs:
        parts, work = _with_jobs(parts, own.jobs, own, jobs, chance)
    return replace(parts, name="own", notes=f"{work}, but on {place}" if not own.jobs else f"{work}, on {place}")


def _on(parts: Parts, path: Path, data: Path | None, chance: random.Random) -> tuple[Parts, str]:
    """On a user's federation. Where that has no links they are Skyplane's, if the folder of the traces is there: between the
    regions of the sites as far as Skyplane knows them, and others that are dealt out."""
    mine = read_federation(path)
    links, whence = mine.links, f"{len(mine.links)} links"
    if not links and data is not None:
        wan = read_wan(data)
        dealt = _regions(wan, [site.name for site in mine.sites], chance)
        regions = {site.name: site.region if site.region in wan.regions else dealt[site.name] for site in mine.sites}
        links = tuple(links_of(wan, regions))
        whence = "Skyplane's links as between " + ", ".join(f"{name} in {region}" for name, region in sorted(regions.items()))
    notes = [f"the {len(mine.sites)} sites of {path.name} with {whence}"]
    unknown = sum(dataset.size_bytes is None for dataset in mine.datasets)
    notes += [f"{unknown} of its datasets have no size and count as 1 GiB"] if unknown else []
    notes += ["its tenants' weights and limits do not count"] if mine.tenants else []
    changed = replace(parts, sites=mine.sites, links=links, datasets=mine.datasets, replicas=mine.replicas)
    return changed, ", ".join(notes)


def _with_jobs(parts: Parts, path: Path, own: Own, jobs: int, chance: random.Random) -> tuple[Parts, str]:
    """A user's jobs in the same place."""
    recorded = read_jobs(path, own.jobs_format)
    first = chance.randrange(max(len(recorded) - jobs, 0) + 1)
    window = recorded[first : first + jobs]
    notes = [f"{len(window)} of {len(recorded)} jobs of {path.name}"]
    sizes: Sequence[float] = ()
    if own.draws_data:
        read = [job.input_gib for job in window if job.input_gib]
        sizes = read or log_uniform(*OWN_SIZES_GIB, chance)
        whence = "as large as what jobs read" if read else f"of {OWN_SIZES_GIB[0]:g} to {OWN_SIZES_GIB[1]:g} GiB"
        notes.append(f"of which seven of ten that name no dataset read a drawn one {whence}")
    return replace(parts, jobs=window, sizes_gib=sizes, is_as_recorded=True), ", ".join(notes)


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
    sizes_gib = log_uniform(1, 500, chance)
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
    links, sizes_gib = tuple(links_of(wan, regions)), log_uniform(1, 200, chance)
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
    return Parts("generated", tuple(sites), tuple(links), recorded, log_uniform(1, 300, chance), notes)


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
