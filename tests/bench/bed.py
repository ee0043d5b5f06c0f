"""What the benches stand on: processes of our own, an etcd with the flags of the embedded one, and what a process has taken."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from aiohttp import ClientSession

from broker.config import Settings
from broker.store.embedded import find_binary
from tests.engines.etcd.cluster import Member, built_binary, etcd_cluster

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 2**20


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


@contextmanager
def etcd_member(folder: Path, binary: str | None) -> Iterator[Member]:
    """One real etcd, with the quota of the embedded one. Nothing but the broker takes its history away."""
    program = Path(binary) if binary else built_binary() or find_binary()
    flags = [f"--quota-backend-bytes={Settings().quota_bytes}"]
    with etcd_cluster(folder, program, flags=flags) as cluster:
        yield cluster.members[0]


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def loop_s(pid: int) -> float:
    """CPU time of a process' main thread so far: in a broker its loop."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def rss_mib(pid: int, field: str = "VmRSS") -> float:
    """Memory of a process now; with `VmHWM` the most it ever had."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def planner_of(broker: int) -> int:
    """The process in which a broker makes its plans: of its children the one with the most memory."""
    children = Path(f"/proc/{broker}/task/{broker}/children").read_text().split()
    return max(map(int, children), key=rss_mib)


def sizes_of(etcd: Member) -> tuple[float, float]:
    """MiB of its file, and of those in use: what compaction freed is not."""
    page = etcd.answer("/metrics")
    names = ("etcd_mvcc_db_total_size_in_bytes", "etcd_mvcc_db_total_size_in_use_in_bytes")
    found = [re.search(rf"^{name} (\S+)$", page, re.MULTILINE) for name in names]
    whole, used = (float(match[1]) / MIB if match else 0.0 for match in found)
    return whole, used


class Asking:
    """A caller of one broker."""

    def __init__(self, session: ClientSession) -> None:
        """`session` knows the broker's URL."""
        self._session = session

    async def figure(self, name: str) -> float:
        """One of the broker's metrics, by its whole name; 0 where it has none such yet."""
        return (await self.metrics()).get(name, 0.0)

    async def metrics(self) -> dict[str, float]:
        """What the broker counts."""
        async with self._session.get("/metrics") as response:
            page = await response.text()
        return {name: float(value) for name, value in re.findall(r"^(fed_[^ {]+(?:\{.*\})?) (\S+)$", page, re.MULTILINE)}

    async def get(self, path: str) -> Any:
        """A JSON answer. Raises ClientResponseError."""
        async with self._session.get(path) as response:
            response.raise_for_status()
            return await response.json()

    async def times(self, paths: Sequence[str], count: int, pause_s: float = 0.0) -> list[float]:
        """Seconds of `count` requests until their last byte, one after the other, each of the next path."""
        found = []
        for number in range(count):
            began = time.perf_counter()
            async with self._session.get(paths[number % len(paths)]) as response:
                await response.read()
                response.raise_for_status()
            found.append(time.perf_counter() - began)
            await asyncio.sleep(pause_s)
        return found


def cuts(seconds: Sequence[float]) -> tuple[float, float, float]:
    """p50, p99 and the most, in milliseconds."""
    return median(seconds) * 1e3, quantiles(seconds, n=100, method="inclusive")[98] * 1e3, max(seconds) * 1e3


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows of equal columns, as text."""
    names = list(rows[0])
    lines = [names, *([str(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
