"""A real Ray cluster under the contract."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from adapters.base import Layer, RunRef, SiteAdapter
from adapters.ray.adapter import RayAdapter, open_ray
from adapters.ray.client import RayClient
from adapters.ray.settings import RaySettings
from broker.store.embedded import free_ports
from tests.contract.adapters import CALL, POOLS
from tests.contract.program_kind import ProgramKind
from tests.engines.ray.cluster import NodeSpec, RayCluster, missing
from tests.engines.running import running
from topology.site import Engine, Site, Storage

NODES = (
    NodeSpec(4, 8, labels={"pool": "cpu"}),
    NodeSpec(4, 8, labels={"pool": "cpu"}),
    NodeSpec(4, 8, 3, {"gpu-pool": 1, "a_100": 2, "h_100": 1}),
)
"""`POOLS`, one told by a label and one by a custom resource."""
POOL_SETTINGS = {"cpu": {"labels": {"pool": "cpu"}}, "gpu": {"resource": "gpu-pool"}}
GPU_SETTINGS = {"a100": {"counted": "a_100"}, "h100": {"counted": "h_100"}}
IDLE_S = 200.0


def ray_cluster() -> RayCluster:
    """The one of this session, and up."""
    cluster = running("ray", lambda folder: RayCluster(folder, NODES))
    if not cluster.is_up:
        cluster.start()
    return cluster


class RayKind(ProgramKind):
    """A cluster that all tests share; storage and federation are of each test alone."""

    name = "ray"
    is_real = True
    capabilities = RayAdapter.capabilities
    pause_s = 0.1
    terminates_with = (signal.SIGTERM, signal.SIGKILL, None)
    keeps_what_it_accepts = False
    runs_outlive_a_kill = False
    patience_s = 90.0

    @staticmethod
    def missing() -> str:
        return missing()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.federation = f"f{secrets.token_hex(4)}"
        self.cluster = ray_cluster()
        self._token = folder / "token"
        self._token.write_text(self.cluster.token)
        self._federations = {self.federation}

    def adapter(self, federation: str | None = None) -> SiteAdapter:
        self._federations.add(federation or self.federation)
        return self._open(federation=federation)

    def with_settings(self, **settings: Any) -> SiteAdapter:
        """An adapter of the same federation whose site says this besides, or instead."""
        return self._open(settings)

    def counted(self) -> tuple[SiteAdapter, Callable[[], int]]:
        site = self._site({})
        client = _CountingClient(RaySettings.model_validate(site.engine.settings))
        adapter = RayAdapter(site, RaySettings.model_validate(site.engine.settings), self.federation, client)
        return adapter, lambda: client.requests

    async def restart(self) -> None:
        await asyncio.to_thread(self.cluster.kill, *self.cluster.names)
        await asyncio.to_thread(self.cluster.start)

    @asynccontextmanager
    async def silent(self) -> AsyncIterator[None]:
        pids = self.cluster.pids("dashboard/dashboard.py")
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    @asynccontextmanager
    async def broken(self, layer: Layer) -> AsyncIterator[SiteAdapter]:
        match layer:
            case Layer.REACH:
                (port,) = free_ports(1)
                yield self._open({"url": f"http://127.0.0.1:{port}"})
            case Layer.LOGIN:
                self._token.write_text("of-last-year")
                try:
                    yield self._open()
                finally:
                    self._token.write_text(self.cluster.token)
            case Layer.SCHEDULER:
                yield self._open({"pools": {"cpu": {"labels": {"pool": "of-last-year"}}}})
            case Layer.STORAGE:
                with self.without_storage():
                    yield self._open()

    async def end(self) -> None:
        """Ray starts what waits as soon as there is room: nothing of this test may be left to the next."""
        deadline = time.monotonic() + IDLE_S
        for federation in self._federations:
            adapter = self._open(federation=federation)
            while True:
                reports = (await adapter.observe([], CALL)).reports
                if not reports:
                    break
                assert time.monotonic() < deadline, reports
                await adapter.cancel([RunRef(name) for name, report in reports.items() if not report.state.is_over], CALL)
                await asyncio.to_thread(self._drop, [name for name, report in reports.items() if report.state.is_over])
                await self.pause()
            await adapter.close()
        await asyncio.to_thread(self.cluster.wait_idle)

    def _drop(self, names: Iterable[str]) -> None:
        """Without the moment that the adapter gives Ray: no name is taken again."""
        for name in names:
            self.cluster.ask(f"/api/jobs/{name}", "DELETE")

    def _site(self, settings: Mapping[str, Any]) -> Site:
        defaults = {
            "url": self.cluster.url,
            "token": {"file": str(self._token)},
            "pools": POOL_SETTINGS,
            "gpus": GPU_SETTINGS,
            "afterlife_s": 0,  # `restart` ends the nodes too
        }
        return Site("osl", Engine("ray", {**defaults, **settings}), POOLS, Storage(f"file://{self.storage}"))

    def _open(self, settings: Mapping[str, Any] | None = None, federation: str | None = None) -> SiteAdapter:
        site = self._site(settings or {})
        return open_ray(site, RaySettings.model_validate(site.engine.settings), federation or self.federation)


class _CountingClient(RayClient):
    """One that counts the requests it sends."""

    requests = 0

    @asynccontextmanager
    async def reply(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        self.requests += 1
        async with super().reply(method, path, query, body) as reply:
            yield reply
