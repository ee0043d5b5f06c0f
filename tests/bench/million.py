"""Jobs without end through the whole path, with housekeeping as a production has it: rates may not sink, nor the store fill up.

    python -m tests.bench.million [--jobs 1000000] [--every 50000] [--ahead 4000] [--keep 100000] [--etcd-binary PATH]

Real are the HTTP API with bulk submission, one broker's process with its planner's, etcd with the quota of the embedded one,
every record and every phase; the sites' engines are twins that finish each run at once. At most `--ahead` jobs are accepted and
not yet finished. Finished jobs go when there are more than `--keep` of them. Each line is of the jobs since the line before; "in
use" is what of etcd's file is not free to be used again.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from itertools import count
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout

from broker.client import Client
from tests.bench.bed import Asking, cpu_s, cuts, etcd_member, rss_mib, sizes_of, start, table, told
from tests.bench.throughput import SUBMITTERS, a_job, prepare
from tests.engines.etcd.cluster import Member

SUCCEEDED = 'fed_jobs{phase="succeeded"}'
LOOK_S = 0.25
LISTS = 20
"""Lists that are timed for each line."""
SETTLE_S = 70.0
"""One turn of housekeeping and some more."""


class Flow:
    """Submits while not too many are under way; knows how many have finished."""

    def __init__(self, client: Client, asking: Asking, given: argparse.Namespace) -> None:
        self._client = client
        self._asking = asking
        self._given = given
        self._numbers = iter(range(0, given.jobs, given.bulk))
        self._sent = 0
        self._moved = asyncio.Condition()
        self.finished = 0

    async def run(self) -> None:
        """Until all have finished."""
        async with asyncio.TaskGroup() as group:
            for _ in range(SUBMITTERS):
                group.create_task(self._submit())
            group.create_task(self._look())

    async def reached(self, finished: int) -> None:
        """Wait until so many have finished."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.finished >= finished)

    async def _submit(self) -> None:
        for first in self._numbers:
            async with self._moved:
                await self._moved.wait_for(lambda: self._sent - self.finished + self._given.bulk <= self._given.ahead)
                self._sent += self._given.bulk
            await self._client.submit([a_job(number) for number in range(first, first + self._given.bulk)])

    async def _look(self) -> None:
        before = await self._succeeded()
        while self.finished < self._given.jobs:
            await asyncio.sleep(LOOK_S)
            finished = await self._succeeded() - before
            async with self._moved:
                self.finished = finished
                self._moved.notify_all()

    async def _succeeded(self) -> int:
        return int(await self._asking.figure('fed_job_events_total{event="Succeeded"}'))


async def measure(given: argparse.Namespace, etcd: Member, folder: Path) -> None:
    """A line for each so many jobs."""
    broker = start("tests.bench.twin_broker", "--etcd", etcd.endpoint, "--keep", str(given.keep))
    try:
        url = told(broker)["url"]
        async with Client(url) as client, ClientSession(url, timeout=ClientTimeout(total=120)) as session:
            asking = Asking(session)
            await prepare([client], given.sites, folder)
            rows = [await line(asking, etcd, broker.pid, 0, 0.0, 0.0)]
            flow = Flow(client, asking, given)
            async with asyncio.TaskGroup() as group:
                group.create_task(flow.run())
                began = time.monotonic()
                for number in count(1):
                    at, cpu = time.monotonic(), cpu_s(broker.pid)
                    wanted = min(number * given.every, given.jobs)
                    before = flow.finished
                    await flow.reached(wanted)
                    done = flow.finished - before
                    spent, passed = cpu_s(broker.pid) - cpu, time.monotonic() - at
                    rows.append(await line(asking, etcd, broker.pid, flow.finished, done / passed, spent / done * 1e6))
                    if wanted == given.jobs:
                        break
            took = time.monotonic() - began
            await asyncio.sleep(SETTLE_S if given.jobs > given.keep else 0)
            rows.append(await line(asking, etcd, broker.pid, flow.finished, 0.0, 0.0))
            print(table(rows))
            print(f"{given.jobs} jobs in {took:.0f} s: {given.jobs / took:.0f} jobs/s; the last line is {SETTLE_S:.0f} s later")
    finally:
        broker.terminate()
        broker.wait()


async def line(asking: Asking, etcd: Member, broker: int, finished: int, rate: float, cpu_us: float) -> dict[str, object]:
    """How it stands."""
    p50, p99, _ = cuts(await asking.times(["/v1/jobs"], LISTS))
    whole, used = sizes_of(etcd)
    assert etcd.process
    found: dict[str, object] = {
        "finished": finished,
        "jobs/s": f"{rate:.0f}",
        "broker µs/job": f"{cpu_us:.0f}",
        "etcd file MiB": f"{whole:.0f}",
        "in use": f"{used:.0f}",
        "etcd RSS MiB": f"{rss_mib(etcd.process.pid):.0f}",
        "broker RSS MiB": f"{rss_mib(broker):.0f}",
        "kept": f"{await asking.figure(SUCCEEDED):.0f}",
        "list p50 ms": f"{p50:.1f}",
        "p99": f"{p99:.1f}",
    }
    print(found, flush=True)
    return found


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--every", type=int, default=50_000)
    parser.add_argument("--ahead", type=int, default=4_000, help="jobs accepted and not yet finished, at most")
    parser.add_argument("--keep", type=int, default=100_000, help="finished jobs that are kept")
    parser.add_argument("--bulk", type=int, default=500)
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--etcd-binary", help="the built one, else that of the embedded default, when absent")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fed-bench-") as folder, etcd_member(Path(folder), given.etcd_binary) as etcd:
        asyncio.run(measure(given, etcd, Path(folder)))


if __name__ == "__main__":
    main()
