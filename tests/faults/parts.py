"""Real parts to be killed: brokers as processes of their own, and what one asks them over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

READY_S = 30.0
ROOT = Path(__file__).parent.parent.parent


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class BrokerProcess:
    """One `fed up` on an etcd of ours; killed and started again on the same port. `tree` holds its code, and `settings` are lines
    of its broker.yaml."""

    def __init__(self, etcd: str, log: Path, tree: Path = ROOT, settings: str = "") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.starts = 0
        self._etcd = etcd
        self._log = log
        self._tree = tree
        self._config = log.with_suffix(".yaml")
        self._config.write_text(settings or "{}")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process
        return self._process.pid

    def start(self) -> None:
        """Start it, without waiting until it is ready."""
        self.starts += 1
        command = [sys.executable, "-m", "broker", "up", "--etcd", self._etcd, "--port", str(self.port), "--config", self._config]
        environment = {**os.environ, "PYTHONPATH": str(self._tree)}  # of its site's daemons, too
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._tree, env=environment)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it and wait until it is gone."""
        if self._process:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None


class Endpoints:
    """The brokers' API as a patient user sees it: any endpoint will do, and one that died is asked again."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        self._session = session
        self._urls = list(urls)

    async def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """The answer's JSON, once one endpoint gives one below 500."""
        deadline = time.monotonic() + 60
        while True:
            for url in self._urls:
                try:
                    async with self._session.request(method, url + path, json=body, headers=headers) as response:
                        if response.status < 400:
                            return await response.json()
                        problem = f"{response.status} {await response.text()}"
                        if response.status < 500 and response.status != 429:
                            raise AssertionError(f"{method} {path}: {problem}")
                except (aiohttp.ClientError, TimeoutError) as error:
                    problem = repr(error)
            if time.monotonic() > deadline:
                raise AssertionError(f"{method} {path}: no endpoint answers: {problem}")
            await asyncio.sleep(0.1)

    async def jobs(self) -> list[dict[str, Any]]:
        """All jobs, over all pages."""
        found, cursor = [], ""
        while True:
            page = await self.ask("GET", f"/v1/jobs?limit=500{cursor}")
            found += page["items"]
            if not page["next"]:
                return found
            cursor = f"&cursor={page['next']}"


@asynccontextmanager
async def endpoints(brokers: Sequence[BrokerProcess]) -> AsyncIterator[Endpoints]:
    """Ask all of these brokers, in this order."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield Endpoints(session, [broker.url for broker in brokers])


def a_process_site(name: str, storage: Path, nodes: int = 2, cpus: int = 8) -> dict[str, Any]:
    """A site's document, with an engine of its own below its storage."""
    storage.mkdir(parents=True, exist_ok=True)
    return {
        "name": name,
        "region": name,
        "engine": {"kind": "process"},
        "pools": [{"name": "cpu", "nodes": nodes, "per_node": {"cpus": cpus, "memory_gib": 16}}],
        "storage": {"url": f"file://{storage}"},
    }


def is_alive(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int) -> None:
    """SIGKILL; one that is gone is not an error."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
