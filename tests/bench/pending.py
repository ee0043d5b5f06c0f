"""What a long queue costs: memory, one plan, a restart, and how soon lists, filters and `why` answer.

    python -m tests.bench.pending [--jobs 100000] [--requests 50] [--etcd-binary PATH]

Real are the broker's process with its planner's, etcd and the HTTP API. Twenty sites in a ring take what they have room for,
never end it, and are full from then on: all the other jobs wait. The jobs are of some hundred classes and 20 tenants; the answers
are timed one after the other, while the broker goes on planning. The command is a whole `fed why`, with the start of its process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout

from broker.client import Client
from tests.bench.bed import Asking, cpu_s, cuts, etcd_member, loop_s, planner_of, rss_mib, sizes_of, start, table, told
from tests.engines.etcd.cluster import Member

SITES = 20
NODES = 4
TENANTS = 20
BULK = 1000
DATASETS = 40
WATCHED_S = 15.0
"""How long plans are watched once the queue stands."""
NEVER_S = 1e9


@dataclass(frozen=True, slots=True)
class Process:
    """A broker that listens."""

    popen: subprocess.Popen[str]
    url: str

    @property
    def pid(self) -> int:
        """Its own; the planner's is `planner_of` that."""
        return self.popen.pid


def a_site(number: int, storage: Path) -> dict[str, Any]:
    """Four nodes of 64 cpus; a third of the sites have eight GPUs in each."""
    per_node: dict[str, Any] = {"cpus": 64, "memory_gib": 256}
    if number % 3 == 0:
        per_node["gpus"] = {"a100": 8}
    pools = [{"name": "main", "nodes": NODES, "per_node": per_node}]
    return {"name": f"site-{number}", "engine": {"kind": "process"}, "pools": pools, "storage": {"url": f"file://{storage}"}}


def a_job(number: int) -> dict[str, Any]:
    """Of every tenant a few classes; each job has a command and labels of its own. A tenth are gangs, a tenth want GPUs."""
    chance = random.Random(number)
    kind = random.Random(number % (TENANTS * 25))
    job: dict[str, Any] = {
        "name": f"job-{number}",
        "tenant": f"tenant-{number % TENANTS}",
        "command": ["work", str(number)],
        "run_time": kind.choice([600, 1800, 3600, 7200]),
        "priority": kind.choice([40, 50, 50, 60]),
        "resources": {"cpus": kind.choice([1, 2, 4, 8, 16]), "memory_gib": kind.choice([1, 4, 16])},
        "labels": {"team": f"team-{number % 37}", "campaign": f"c{number // 1000}", "rank": str(chance.randrange(10_000))},
    }
    sort = kind.random()
    if sort < 0.1:
        job["tasks"] = 4
    elif sort < 0.2:
        job["resources"]["gpus"] = {"count": 1}
    elif sort < 0.4:
        job["inputs"] = [{"dataset": f"set-{kind.randrange(DATASETS)}"}]
    return job


def serve(etcd: str, *flags: str) -> subprocess.Popen[str]:
    """A broker whose runs never end."""
    return start("tests.bench.twin_broker", "--etcd", etcd, "--run-s", str(NEVER_S), *flags)


async def prepare(client: Client, folder: Path) -> None:
    """Tenants, sites in a ring, and a copy of each dataset."""
    names = [f"site-{number}" for number in range(SITES)]
    for number in range(TENANTS):
        await client.put("tenants", f"tenant-{number}", {"name": f"tenant-{number}", "max_pending": 10_000_000})
    for number, name in enumerate(names):
        (folder / name).mkdir()
        await client.put("sites", name, a_site(number, folder / name))
    for here, there in zip(names, [*names[1:], names[0]], strict=True):
        for source, target in ((here, there), (there, here)):
            await client.put("links", f"{source}:{target}", {"from": source, "to": target, "bandwidth_gbps": 10})
    for number in range(DATASETS):
        site, path = names[number % SITES], f"set-{number}"
        (folder / site / path).mkdir()
        (folder / site / path / "numbers").write_text("1 2 3\n")
        await client.put("datasets", f"{path}@1", {"name": path, "version": "1", "replicas": [{"site": site, "path": path}]})
    while any(site["health"] != "up" for site in (await client.health())["sites"]):
        await asyncio.sleep(0.1)


async def submit(client: Client, jobs: int) -> float:
    """All of them, each request of one tenant; seconds."""
    by_tenant = [range(tenant, jobs, TENANTS) for tenant in range(TENANTS)]
    requests = iter([numbers[at : at + BULK] for numbers in by_tenant for at in range(0, len(numbers), BULK)])

    async def some() -> None:
        for numbers in requests:
            await client.submit([a_job(number) for number in numbers])

    began = time.monotonic()
    await asyncio.gather(some(), some())
    return time.monotonic() - began


async def settled(asking: Asking) -> dict[str, float]:
    """Once the sites are full: nothing was placed for a while."""
    before = -1.0
    while (now := await asking.figure('fed_jobs{phase="pending"}')) != before:
        before = now
        await asyncio.sleep(5)
    return await asking.metrics()


async def plans(asking: Asking, process: Process) -> dict[str, object]:
    """The mean of plans over a while, how long the loop was held meanwhile, and what broker and planner took of a core."""
    before, cpu, planner = await asking.metrics(), cpu_s(process.pid), cpu_s(planner_of(process.pid))
    began = time.monotonic()
    answers = await asking.times(["/healthz"], int(WATCHED_S / 0.02), pause_s=0.02)
    wall = time.monotonic() - began
    after = await asking.metrics()
    count = after["fed_plan_seconds_count"] - before["fed_plan_seconds_count"]
    seconds = after["fed_plan_seconds_sum"] - before["fed_plan_seconds_sum"]
    planning = (cpu_s(planner_of(process.pid)) - planner) / max(count, 1)
    return {
        "plans": int(count),
        "one plan, mean s": f"{seconds / count:.3f}" if count else "none was made",
        "its CPU in the planner, s": f"{planning:.3f}",
        "broker's CPU, of a core": f"{(cpu_s(process.pid) - cpu) / wall:.0%}",
        "GET /healthz p50/p99/max ms": "/".join(f"{each:.1f}" for each in cuts(answers)),
    }


async def cursors(asking: Asking, count: int) -> list[str]:
    """The later pages of the whole list."""
    found: list[str] = []
    path = "/v1/jobs"
    for _ in range(count):
        following = (await asking.get(path))["next"]
        if following is None:
            break
        path = f"/v1/jobs?cursor={following}"
        found.append(path)
    return found


async def answers(asking: Asking, process: Process, jobs: int, requests: int) -> list[dict[str, object]]:
    """A row for each kind of request, with what it takes of the loop."""
    waiting = [job["id"] for job in (await asking.get("/v1/jobs?phase=pending&limit=1000"))["items"]]
    chosen = random.Random(1).sample(waiting, min(requests, len(waiting)))
    late = int(time.time()) + 3600
    named = range(0, jobs, max(jobs // 50, 1))
    kinds: dict[str, list[str]] = {
        "list": ["/v1/jobs"],
        "list, later pages": await cursors(asking, requests),
        "list of 1000": ["/v1/jobs?limit=1000"],
        "phase=pending": ["/v1/jobs?phase=pending"],
        "phase=queued,running": ["/v1/jobs?phase=queued,running"],
        "phase=cancelled (none)": ["/v1/jobs?phase=cancelled"],
        "tenant": [f"/v1/jobs?tenant=tenant-{number}" for number in range(TENANTS)],
        "tenant and name (one)": [f"/v1/jobs?tenant=tenant-{number % TENANTS}&name=job-{number}" for number in named],
        "name (one)": [f"/v1/jobs?name=job-{number}" for number in named],
        "label (1 of 37)": [f"/v1/jobs?label=team%3Dteam-{number}" for number in range(37)],
        "label (ten of all)": [f"/v1/jobs?label=rank%3D{number}" for number in range(50)],
        "label (none)": ["/v1/jobs?label=rank%3Dnone"],
        "label there (none)": ["/v1/jobs?label=nowhere"],
        "site": [f"/v1/jobs?site=site-{number}" for number in range(SITES)],
        "site (none)": ["/v1/jobs?site=nowhere"],
        "since (none)": [f"/v1/jobs?since={late}"],
        "one job": [f"/v1/jobs/{job}" for job in chosen],
        "one job by suffix": [f"/v1/jobs/{job[-8:]}" for job in chosen],
        "why": [f"/v1/jobs/{job}/why" for job in chosen],
        "health": ["/v1/health"],
        "metrics": ["/metrics"],
    }
    rows = []
    for kind, paths in kinds.items():
        await asking.times(paths, 2)
        before = loop_s(process.pid)
        seconds = await asking.times(paths, requests)
        spent = (loop_s(process.pid) - before) / requests * 1e3
        rows.append(answer_row(kind, seconds, spent))
    return rows


def answer_row(kind: str, seconds: Sequence[float], loop_ms: float) -> dict[str, object]:
    """One kind of request in a line."""
    p50, p99, most = cuts(seconds)
    shown = {"p50 ms": f"{p50:.1f}", "p99 ms": f"{p99:.1f}", "max ms": f"{most:.1f}", "loop's CPU ms": f"{loop_ms:.1f}"}
    return {"request": kind, "n": len(seconds), **shown}


async def command(url: str, asking: Asking, count: int = 5) -> list[float]:
    """Seconds of the whole `fed why`, with the start of its process."""
    job = (await asking.get("/v1/jobs?phase=pending&limit=1"))["items"][0]["id"]
    found = []
    for _ in range(count):
        began = time.perf_counter()
        made = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "broker", "why", job, env={**os.environ, "FED_URL": url}, stdout=subprocess.DEVNULL
        )
        if await made.wait():
            raise RuntimeError("fed why failed")
        found.append(time.perf_counter() - began)
    return found


async def until_ready(popen: subprocess.Popen[str], began: float) -> tuple[Process, float]:
    """The process once /readyz says so, and the seconds since `began`."""
    url = (await asyncio.to_thread(told, popen))["url"]
    async with ClientSession(url, timeout=ClientTimeout(total=120)) as session:
        while True:
            async with session.get("/readyz") as response:
                if response.status == 200:
                    return Process(popen, url), time.monotonic() - began
            await asyncio.sleep(0.02)


async def restarts(process: Process, etcd: str) -> tuple[Process, dict[str, object]]:
    """By SIGTERM, then by SIGKILL; from the start of the new process on."""
    found: dict[str, object] = {}
    for number in (signal.SIGTERM, signal.SIGKILL):
        words = number.name
        process.popen.send_signal(number)
        process.popen.wait()
        began = time.monotonic()
        process, seconds = await until_ready(serve(etcd), began)
        found[f"ready after {words}, s"] = f"{seconds:.1f}"
        async with ClientSession(process.url, timeout=ClientTimeout(total=120)) as session:
            while not await Asking(session).figure("fed_plan_seconds_count"):
                await asyncio.sleep(0.1)
        found[f"first plan after {words}, s"] = f"{time.monotonic() - began:.1f}"
    return process, found


def memory(process: Process, etcd: Member) -> dict[str, object]:
    """MiB that each holds, and held at most."""
    planner = planner_of(process.pid)
    whole, used = sizes_of(etcd)
    assert etcd.process
    return {
        "broker MiB": f"{rss_mib(process.pid):.0f}, at most {rss_mib(process.pid, 'VmHWM'):.0f}",
        "planner MiB": f"{rss_mib(planner):.0f}, at most {rss_mib(planner, 'VmHWM'):.0f}",
        "etcd MiB": f"{rss_mib(etcd.process.pid):.0f}",
        "etcd's file MiB": f"{whole:.0f}, in use {used:.0f}",
    }


def show(title: str, found: dict[str, object]) -> None:
    """Names and values, a line each."""
    print(f"\n{title}", *(f"  {name:32} {value}" for name, value in found.items()), sep="\n", flush=True)


async def measure(jobs: int, requests: int, etcd: Member, folder: Path) -> None:
    """Fill, look, restart, look again."""
    process, seconds = await until_ready(serve(etcd.endpoint), time.monotonic())
    running = [process]
    try:
        show("empty", {"ready, s": f"{seconds:.1f}", **memory(process, etcd)})
        async with Client(process.url) as client:
            await prepare(client, folder)
            took = await submit(client, jobs)
        async with ClientSession(process.url, timeout=ClientTimeout(total=120)) as session:
            asking = Asking(session)
            counted = await settled(asking)
            phases = {name[16:-2]: int(value) for name, value in counted.items() if name.startswith("fed_jobs{") and value}
            show("filled", {"accepted/s": f"{jobs / took:.0f}", "jobs by phase": phases, **memory(process, etcd)})
            show("plans", await plans(asking, process))
            print("\nanswers", table(await answers(asking, process, jobs, requests)), sep="\n", flush=True)
            whole = await command(process.url, asking)
            show("the command", {"fed why p50/p99/max ms": "/".join(f"{each:.0f}" for each in cuts(whole))})
            show("after all these", memory(process, etcd))
        process, found = await restarts(process, etcd.endpoint)
        running.append(process)
        show("restart", {**found, **memory(process, etcd)})
    finally:
        for each in running:
            each.popen.kill()
            each.popen.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=50, help="of each kind")
    parser.add_argument("--etcd-binary", help="the built one, else that of the embedded default, when absent")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fed-bench-") as temporary:
        folder = Path(temporary)
        with etcd_member(folder, given.etcd_binary) as etcd:
            asyncio.run(measure(given.jobs, given.requests, etcd, folder))


if __name__ == "__main__":
    main()
