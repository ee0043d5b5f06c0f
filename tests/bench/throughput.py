"""Jobs per second through one broker process, from accepted to finished, and how soon a single job is dispatched.

    python -m tests.bench.throughput [--jobs 20000] [--sites 4] [--bulk 500] [--etcd-binary PATH]

Real are the HTTP API with bulk submission, etcd, the planner's process, every record and every phase. The sites' engines are
twins that finish each run at once. The jobs are counted by another process, from etcd.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from broker.client import Client
from broker.store.embedded import find_binary
from tests.engines.etcd.cluster import built_binary, etcd_cluster

SUBMITTERS = 4
SINGLE_JOBS = 200
TICKS = os.sysconf("SC_CLK_TCK")


def a_site(name: str, storage: Path) -> dict[str, Any]:
    """A site that is never short of room."""
    pool = {"name": "cpu", "nodes": 100, "per_node": {"cpus": 1000, "memory_gib": 10000}}
    return {"name": name, "engine": {"kind": "process"}, "pools": [pool], "storage": {"url": f"file://{storage}"}}


def a_job(number: int) -> dict[str, Any]:
    """Each with a command of its own; sixteen classes."""
    return {"name": f"job-{number}", "command": ["true", str(number)], "run_time": 60, "priority": number % 16}


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def measure(given: argparse.Namespace, folder: Path) -> None:
    """Print all figures."""
    binary = Path(given.etcd_binary) if given.etcd_binary else built_binary() or find_binary()
    with etcd_cluster(folder, binary) as etcd:
        endpoint = etcd.members[0].endpoint
        broker = start("tests.bench.twin_broker", "--etcd", endpoint)
        try:
            url = told(broker)["url"]
            async with Client(url) as client:
                await prepare(client, given.sites, folder)
                await latency(client)
                counter = start("tests.bench.counting", "--etcd", endpoint, "--jobs", str(given.jobs))
                told(counter)
                etcd_process = etcd.members[0].process
                assert etcd_process
                before = {"broker": cpu_s(broker.pid), "etcd": cpu_s(etcd_process.pid)}
                accepted = await submit(client, given.jobs, given.bulk)
                counted = await asyncio.to_thread(told, counter)
                after = {"broker": cpu_s(broker.pid), "etcd": cpu_s(etcd_process.pid)}
        finally:
            broker.terminate()
        parts = told(broker)
    rate = given.jobs / counted["seconds"]
    print(f"{given.jobs} jobs {counted['phases']} in {counted['seconds']:.2f} s: {rate:.0f} jobs/s from accepted to finished")
    print(f"accepted within {accepted:.2f} s: {given.jobs / accepted:.0f} jobs/s")
    print(f"writes per job: {({kind: round(n / given.jobs, 2) for kind, n in counted['writes'].items()})}")
    for part in before:
        print(f"CPU of {part}: {(after[part] - before[part]) / given.jobs * 1e6:.0f} µs per job")
    print(f"the broker's CPU over its life, by part: {({part: f'{seconds:.2f} s' for part, seconds in parts.items()})}")


async def prepare(client: Client, sites: int, folder: Path) -> None:
    """Register the sites and wait until all are up."""
    for number in range(sites):
        storage = folder / f"site-{number}"
        storage.mkdir()
        await client.put("sites", f"site-{number}", a_site(f"site-{number}", storage))
    await client.put("tenants", "default", {"name": "default", "max_pending": 10_000_000})
    while any(site["health"] != "up" for site in (await client.health())["sites"]):
        await asyncio.sleep(0.1)


async def latency(client: Client) -> None:
    """Single jobs on an idle federation, one after the other: from the POST to the engine's acceptance as stored."""
    waits = []
    for number in range(SINGLE_JOBS):
        began = time.time()
        job = await client.submit(a_job(10_000_000 + number))
        while (job := await client.job(job["id"]))["phase"] != "succeeded":
            await asyncio.sleep(0.02)
        waits.append((job["attempts"][-1]["accepted_at"] - began) * 1e3)
    cuts = quantiles(waits, n=100)
    print(f"submit to dispatched, idle, {SINGLE_JOBS} jobs: p50 {median(waits):.1f} ms, p95 {cuts[94]:.1f}, p99 {cuts[98]:.1f}")


async def submit(client: Client, jobs: int, bulk: int) -> float:
    """Everything, by a few callers at a time; seconds until the last answer."""
    starts = iter(range(0, jobs, bulk))

    async def some() -> None:
        for first in starts:
            await client.submit([a_job(number) for number in range(first, min(first + bulk, jobs))])

    began = time.monotonic()
    await asyncio.gather(*(some() for _ in range(SUBMITTERS)))
    return time.monotonic() - began


def start(module: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of our own, whose lines are read with `told`."""
    return subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> Any:
    """The next line of JSON that it prints."""
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args} ended without a word")
    return json.loads(line)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--bulk", type=int, default=500)
    parser.add_argument("--etcd-binary", help="the built one, else that of the embedded default, when absent")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fed-bench-") as folder:
        asyncio.run(measure(given, Path(folder)))


if __name__ == "__main__":
    main()
