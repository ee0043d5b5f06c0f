"""Jobs per second through one broker process, from accepted to finished, and how soon a single job is dispatched.

    python -m tests.bench.throughput [--jobs 20000] [--sites 4] [--bulk 500] [--etcd-binary PATH] [--profile]
        [--brokers 2] [--tokens] [--follower] [--scrape] | --full [--pairs 3]

Real are the HTTP API with bulk submission, etcd, the planner's process, every record and every phase. The sites' engines are
twins that finish each run at once. The jobs are counted by another process, from etcd. `--full` is all four of `--brokers 2`,
`--tokens`, `--follower` (of all events, from every broker) and `--scrape` (of every broker's metrics, each second), measured in
turns with the plain one.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from aiohttp import ClientSession, ClientTimeout

from broker.access import Role, add_token
from broker.client import Client
from tests.bench.bed import cpu_s, etcd_member, start, table, told
from tests.bench.sampling import most

SUBMITTERS = 4
SINGLE_JOBS = 200
SCRAPE_S = 1.0
LARGEST = 5
"""Parts of a profile that are shown."""


@dataclass(frozen=True, slots=True)
class Way:
    """What stands around the jobs."""

    name: str
    brokers: int = 1
    has_tokens: bool = False
    has_follower: bool = False
    is_scraped: bool = False
    is_profiled: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. `cpu_us` is per job, by part; `profile` is of the broker that took part most."""

    rate: float
    accepted: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_us: Mapping[str, float]
    writes: Mapping[str, float]
    parts: Mapping[str, float]
    events: int
    profile: Any


VAST = {"nodes": 100, "per_node": {"cpus": 1000, "memory_gib": 10000}}
"""A pool that is never short of room."""


def a_site(name: str, storage: Path, pool: Mapping[str, Any]) -> dict[str, Any]:
    """A site with one pool."""
    pools = [{"name": "cpu", **pool}]
    return {"name": name, "engine": {"kind": "process"}, "pools": pools, "storage": {"url": f"file://{storage}"}}


def a_job(number: int) -> dict[str, Any]:
    """Each with a command of its own; sixteen classes."""
    return {"name": f"job-{number}", "command": ["true", str(number)], "run_time": 60, "priority": number % 16}


async def measure(given: argparse.Namespace, way: Way) -> Measured:
    """One run in a folder, and an etcd, of its own."""
    with tempfile.TemporaryDirectory(prefix="fed-bench-") as temporary:
        folder = Path(temporary)
        with etcd_member(folder, given.etcd_binary) as etcd:
            token, flags = "", ["--profile"] if way.is_profiled else []
            if way.has_tokens:
                token = add_token(folder / "tokens.yaml", "bench", Role.ADMIN, None, None)
                flags += ["--token-file", str(folder / "tokens.yaml")]
            brokers = [start("tests.bench.twin_broker", "--etcd", etcd.endpoint, *flags) for _ in range(way.brokers)]
            try:
                urls = [told(broker)["url"] for broker in brokers]
                assert etcd.process
                pids = {"etcd": [etcd.process.pid], "broker": [broker.pid for broker in brokers]}
                outcome = await drive(given, way, urls, token, folder, pids, etcd.endpoint)
            finally:
                for broker in brokers:
                    broker.terminate()
            said = [told(broker) for broker in brokers]
    parts: Counter[str] = Counter()
    for each in said:
        parts.update(each["parts"])
    busiest = max(said, key=lambda each: each["parts"]["loop"])
    return Measured(**outcome, parts=parts, profile=busiest["profile"])


async def drive(
    given: argparse.Namespace, way: Way, urls: Sequence[str], token: str, folder: Path, pids: Mapping[str, list[int]], etcd: str
) -> dict[str, Any]:
    """All of one run, against brokers that listen."""
    events: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(url, token=token or None)) for url in urls]
        await prepare(clients, given.sites, folder)
        waits = await latency(clients[-1])
        beside = [asyncio.create_task(follow(client, events)) for client in clients if way.has_follower]
        beside += [asyncio.create_task(scrape(url, token)) for url in urls if way.is_scraped]
        counter = start("tests.bench.counting", "--etcd", etcd, "--jobs", str(given.jobs))
        told(counter)
        before = {part: sum(map(cpu_s, of_part)) for part, of_part in pids.items()}
        accepted = await submit(clients, given.jobs, given.bulk)
        counted = await asyncio.to_thread(told, counter)
        after = {part: sum(map(cpu_s, of_part)) for part, of_part in pids.items()}
        for task in beside:
            task.cancel()
        ends = await asyncio.gather(*beside, return_exceptions=True)
    for end in ends:
        if not isinstance(end, asyncio.CancelledError):
            raise RuntimeError(f"what was beside the jobs ended early: {end!r}")
    if counted["phases"] != {"succeeded": given.jobs}:
        raise RuntimeError(f"not all jobs succeeded: {counted['phases']}")
    percent = quantiles(waits, n=100)
    return {
        "rate": given.jobs / counted["seconds"],
        "accepted": given.jobs / accepted,
        "p50_ms": median(waits),
        "p95_ms": percent[94],
        "p99_ms": percent[98],
        "cpu_us": {part: (after[part] - before[part]) / given.jobs * 1e6 for part in before},
        "writes": {kind: round(n / given.jobs, 2) for kind, n in counted["writes"].items()},
        "events": events["job"],
    }


async def prepare(clients: Sequence[Client], sites: int, folder: Path, pool: Mapping[str, Any] = VAST) -> None:
    """Register the sites and wait until every broker knows that all are up."""
    client = clients[0]
    while len((await client.health())["members"]) < len(clients):
        await asyncio.sleep(0.1)
    for number in range(sites):
        storage = folder / f"site-{number}"
        storage.mkdir()
        await client.put("sites", f"site-{number}", a_site(f"site-{number}", storage, pool))
    await client.put("tenants", "default", {"name": "default", "max_pending": 10_000_000})
    for each in clients:
        while any(site["health"] != "up" for site in (await each.health())["sites"]):
            await asyncio.sleep(0.1)


async def latency(client: Client) -> list[float]:
    """Single jobs on an idle federation, one after the other: ms from the POST to the engine's acceptance as stored."""
    waits = []
    for number in range(SINGLE_JOBS):
        began = time.time()
        job = await client.submit(a_job(10_000_000 + number))
        while (job := await client.job(job["id"]))["phase"] != "succeeded":
            await asyncio.sleep(0.02)
        waits.append((job["attempts"][-1]["accepted_at"] - began) * 1e3)
    return waits


async def follow(client: Client, events: Counter[str]) -> None:
    """Read all changes, and count them."""
    async for event in client.events():
        events["reset" if "reset" in event else "job"] += 1


async def scrape(url: str, token: str) -> None:
    """As Prometheus does, and more often."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with ClientSession(headers=headers, timeout=ClientTimeout(total=30)) as session:
        while True:
            async with session.get(f"{url}/metrics") as response:
                response.raise_for_status()
                await response.read()
            await asyncio.sleep(SCRAPE_S)


async def submit(clients: Sequence[Client], jobs: int, bulk: int) -> float:
    """Everything, by a few callers at a time, at all brokers alike; seconds until the last answer."""
    starts = iter(range(0, jobs, bulk))

    async def some(client: Client) -> None:
        for first in starts:
            await client.submit([a_job(number) for number in range(first, min(first + bulk, jobs))])

    began = time.monotonic()
    await asyncio.gather(*(some(clients[number % len(clients)]) for number in range(SUBMITTERS)))
    return time.monotonic() - began


def row(way: Way, found: Measured) -> dict[str, object]:
    """One run in a line."""
    return {
        "way": way.name,
        "jobs/s": f"{found.rate:.0f}",
        "accepted/s": f"{found.accepted:.0f}",
        "p50 ms": f"{found.p50_ms:.1f}",
        "p95 ms": f"{found.p95_ms:.1f}",
        "p99 ms": f"{found.p99_ms:.1f}",
        "broker µs/job": f"{found.cpu_us['broker']:.0f}",
        "etcd µs/job": f"{found.cpu_us['etcd']:.0f}",
        "events": found.events,
    }


def show_profile(found: Measured, jobs: int) -> None:
    """The largest parts of the loop's CPU, over the broker's life."""
    for kind, words in (("modules", "by module"), ("functions", "by function"), ("within", "with all they call")):
        seconds = found.profile[kind]
        whole = sum(found.profile["modules"].values())
        count = LARGEST if kind == "modules" else 3 * LARGEST
        print(f"\nthe loop's {whole:.1f} s of CPU, {words}:")
        for name, spent in most(seconds, count).items():
            print(f"  {spent / whole:6.1%}  {spent / jobs * 1e6:6.1f} µs/job  {name}")


def run(given: argparse.Namespace) -> None:
    """Measure as asked, and print."""
    plain = Way("plain", is_profiled=given.profile)
    full = Way("full", 2, True, True, True, given.profile)
    chosen = Way("as asked", given.brokers, given.tokens, given.follower, given.scrape, given.profile)
    ways = [plain, full] * given.pairs if given.full else [chosen]
    rows, found = [], []
    for way in ways:
        found.append(asyncio.run(measure(given, way)))
        rows.append(row(way, found[-1]))
        print(rows[-1], flush=True)
    print(table(rows))
    print(f"{given.jobs} jobs each; writes per job: {found[-1].writes}")
    parts = {part: f"{seconds:.2f} s" for part, seconds in found[-1].parts.items()}
    print(f"the brokers' CPU over their life, by part: {parts}")
    if given.full:
        ratios = [f.rate / p.rate for p, f in zip(found[::2], found[1::2], strict=True)]
        slower = [f.p50_ms / p.p50_ms for p, f in zip(found[::2], found[1::2], strict=True)]
        each_pair = ", ".join(f"{each:.2f}" for each in ratios)
        print(f"full/plain: jobs/s {median(ratios):.2f} ({each_pair}), p50 {median(slower):.2f}")
    for way, each in zip(ways, found, strict=True):
        if each.profile:
            print(f"\n== {way.name}")
            show_profile(each, given.jobs + SINGLE_JOBS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--bulk", type=int, default=500)
    parser.add_argument("--etcd-binary", help="the built one, else that of the embedded default, when absent")
    parser.add_argument("--brokers", type=int, default=1)
    parser.add_argument("--tokens", action="store_true", help="every request bears one")
    parser.add_argument("--follower", action="store_true", help="somebody reads all events of every broker")
    parser.add_argument("--scrape", action="store_true", help="every broker's metrics are read each second")
    parser.add_argument("--full", action="store_true", help="all of these, in turns with none of them")
    parser.add_argument("--pairs", type=int, default=3, help="with --full")
    parser.add_argument("--profile", action="store_true", help="the largest parts of the broker's CPU")
    run(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
